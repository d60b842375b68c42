"""Four instances behind nginx that share a Redis: one service, also while it is away.

    python -m tests.chaos.replicas

It needs nginx and redis-server. The exit status is 1 if a promise of docs/scaling.md broke.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

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
    with tempfile.TemporaryDirectory() as folder:
        report = replicas(Path(folder), parser.parse_args().seconds)
    print(report.show("replicas"))
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
