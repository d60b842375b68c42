"""Four instances behind nginx that share a Redis: one service, also while it is away.

    python -m tests.chaos.replicas

It needs nginx and redis-server. The exit status is 1 if a promise of docs/scaling.md broke.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from gsop.keys import make_key
from tests.background import Background
from tests.chaos.clients import Load, questions
from tests.chaos.drain import free_ports, nginx
from tests.chaos.report import Report
from tests.shared_store import Store
from tests.stores import publish_tiny
from tests.support import Server, eventually, random_pngs

INSTANCES = 4
CLIENTS = 8
RECORDS = 40
IMAGES = random_pngs(8)


def replicas(folder: Path, seconds: float) -> Report:
    """Every record is found everywhere, counts add up, and no client notices what fails."""
    report = Report()
    publish_tiny(folder / "store")
    ports = free_ports(1 + INSTANCES)
    with contextlib.ExitStack() as stack:
        store = Store(folder)
        stack.callback(store.kill)
        settings: dict[str, Any] = {
            "models": "tiny",
            "shared_url": store.url,
            "drain_delay_seconds": 1,
            "attention_records": 100_000,
        }

        def start(number: int) -> Server:
            named = settings | {"replica": f"instance {number}"}
            port = str(ports[1 + number])
            return stack.enter_context(Server(folder / "store", "--port", port, **named))

        instances = [start(number).wait_ready() for number in range(INSTANCES)]
        asked = questions(instances[0], IMAGES)
        url = stack.enter_context(nginx(ports))
        with Load(url, asked, CLIENTS) as load:
            time.sleep(seconds)
        made = [_predict(url) for _ in range(RECORDS)]
        count = load.tally.right + len(asked) + len(made)
        seen = eventually(lambda: _samples_if_equal(instances, count) or None, 60)
        found = sum(_is_found(instance, id_) for instance in instances for id_ in made)
        report.note(
            instances=INSTANCES,
            predictions=count,
            counted_by_each=seen,
            records_found=f"{found} of {INSTANCES * len(made)}",
        )
        report.check(not load.tally.failed, f"requests failed: {load.tally.failed}")
        report.check(found == INSTANCES * len(made), "a record was not found")
        with Load(url, asked, CLIENTS) as load:
            store.kill()
            for instance in instances:
                eventually(lambda: "goes on alone" in "".join(instance.log))  # noqa: B023
            store.start()
            for instance in instances:
                eventually(lambda: "answers again" in "".join(instance.log))  # noqa: B023
        report.note(
            without_the_store=f"{load.tally.right} answered, {load.tally.failed or 0} failed"
        )
        report.check(not load.tally.failed, f"without the store: {load.tally.failed}")
        with Load(url, asked, CLIENTS) as load:
            for number in range(INSTANCES):
                report.check(instances[number].terminate() == 0, "an instance ended badly")
                instances[number] = start(number).wait_ready()
        report.note(rolling_restart=f"{load.tally.right} answered, {load.tally.failed or 0} failed")
        report.check(not load.tally.failed, f"while they were restarted: {load.tally.failed}")
    return report


RATE = 40
"""Requests a second of a key, over all instances."""
SETTLE_SECONDS = 5.0


def shared_rate(folder: Path, seconds: float) -> Report:
    """A key's rate counts for all instances together; without the store for each alone."""
    report = Report()
    publish_tiny(folder / "store")
    key, entry = make_key("some", ["predict"])
    ports = free_ports(1 + INSTANCES)
    with contextlib.ExitStack() as stack:
        store = Store(folder)
        stack.callback(store.kill)
        settings: dict[str, Any] = {
            "models": "tiny",
            "shared_url": store.url,
            "api_keys": str(entry),
            "rate_per_key": RATE,
            "rate_shared": True,
        }
        instances = [
            stack.enter_context(Server(folder / "store", "--port", str(port), **settings))
            for port in ports[1:]
        ]
        for instance in instances:
            instance.wait_ready()
        url = stack.enter_context(nginx(ports))

        def let_through() -> float:
            """A second, once it has settled."""
            client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60)
            seen: Counter[int] = Counter()
            with client, Background(lambda: seen.update([client.get(f"{url}/models").status_code])):
                time.sleep(SETTLE_SECONDS)
                before = seen[200]
                time.sleep(seconds)
                found = (seen[200] - before) / seconds
            report.check(set(seen) <= {200, 429}, f"statuses: {seen}")
            return found

        together = let_through()
        store.kill()
        for instance in instances:
            eventually(lambda: "goes on alone" in "".join(instance.log))  # noqa: B023
        alone = let_through()
        report.note(rate=RATE, together=f"{together:.1f}/s", without_the_store=f"{alone:.1f}/s")
        report.check(abs(together / RATE - 1) < 0.15, f"{together:.1f} a second were let through")
        report.check(alone > 2 * RATE, f"{alone:.1f} a second were let through by each alone")
    return report


def _predict(url: str) -> str:
    headers = {"Content-Type": "image/png"}
    answer = httpx.post(f"{url}/predict", content=IMAGES[0], headers=headers, timeout=60)
    return str(answer.json()["id"])


def _samples_if_equal(instances: list[Server], count: int) -> int:
    """What each has counted, if that is it."""
    samples = {instance.http.get("/attention").json()["samples"] for instance in instances}
    return count if samples == {count} else 0


def _is_found(instance: Server, id_: str) -> bool:
    """Soon: it is shared within some seconds."""
    with contextlib.suppress(AssertionError):
        return eventually(lambda: instance.http.get(f"/attention/{id_}").status_code == 200, 10)
    return False


def main() -> int:
    """Try it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of load, before anything fails")
    seconds = parser.parse_args().seconds
    faults = []
    for scenario in (replicas, shared_rate):
        with tempfile.TemporaryDirectory() as folder:
            report = scenario(Path(folder), seconds)
        print(report.show(scenario.__name__), flush=True)
        faults += report.faults
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
