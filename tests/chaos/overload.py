"""Ten times what the service can do: what it does well, what it refuses, what it holds."""

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

from benchmarks import open_loop
from tests.chaos.clients import Load, Question, questions, where
from tests.chaos.deaths import check_at_rest
from tests.chaos.memory import resident_bytes
from tests.chaos.report import Report
from tests.failing_backends import SLOW_SECONDS
from tests.support import Server, eventually, random_pngs

TIMES = 10
"""How many times the capacity is offered."""

SLOTS = 32
CLIENTS = 16
"""More than the device takes at once, fewer than the slots."""

DEADLINE_MS = 300
"""Less than a full queue waits (slots × time of a batch), so deadlines pass in it."""

GOODPUT = 0.9
GROWTH = 1.05
AT_ONCE_SECONDS = 1.0
LEAVERS = 20
PNG = {"Content-Type": "image/png"}


def overload(store: Path, seconds: float) -> Report:
    """Offered ten times its capacity, the service does what it can and refuses the rest at once."""
    report = Report()
    # A batch of one takes a fixed time: the device's capacity does not depend on the machine.
    settings = {
        "backend": "tests.failing_backends:Slow",
        "max_batch": 1,
        "slots": SLOTS,
        "slots_per_client": SLOTS,
    }
    with Server(store, models="tiny", **settings) as server:
        asked = questions(server.wait_ready(), random_pngs(8))
        capacity = measure_capacity(server, asked, max(2.0, seconds / 10))
        report.note(
            capacity=f"{capacity:.1f}/s (the device's own: {1 / SLOW_SECONDS:.0f}/s)",
            offered=f"{TIMES * capacity:.0f}/s for {seconds:.0f} s",
        )
        _flood(server, report, capacity, seconds)
        _flood_with_deadlines(server, report, capacity, max(3.0, seconds / 4))
        _leave(server, report, asked[0])
        check_at_rest(server, report)
    return report


def measure_capacity(server: Server, asked: list[Question], seconds: float) -> float:
    """Answers a second to clients that wait for theirs before they ask again."""
    with Load(server.url, asked, CLIENTS) as load:
        eventually(lambda: load.tally.right > CLIENTS)
        before, began = load.tally.right, time.monotonic()
        time.sleep(seconds)
        rate = (load.tally.right - before) / (time.monotonic() - began)
    assert not load.tally.failed, load.tally.failed
    return rate


def _flood(server: Server, report: Report, capacity: float, seconds: float) -> None:
    body = random_pngs(1)[0]
    url = f"{server.url}/predict"
    ended = threading.Event()
    sizes: list[int] = []

    def watch() -> None:
        while not ended.wait(0.5):
            sizes.append(sum(resident_bytes(pid) for pid in server.descendants()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seen = open_loop.run(url, body, PNG, rate=TIMES * capacity, seconds=seconds)
    finally:
        ended.set()
        watcher.join()
    began = time.monotonic()
    server.predict(body)
    first = time.monotonic() - began
    settled = sizes[len(sizes) // 5]
    report.note(
        goodput=f"{seen.goodput:.1f}/s ({seen.goodput / capacity:.0%} of capacity)",
        statuses=seen.statuses,
        refusals=f"p50 {seen.refused_p50_ms or 0:.1f} ms, p99 {seen.refused_p99_ms or 0:.1f} ms "
        f"from when they were due (the generator itself: {seen.late_ms or 0:.1f} ms late)",
        memory=f"{settled / 2**20:.0f} MiB, {max(sizes) / 2**20:.0f} MiB at most",
        first_after_it=f"{first * 1000:.0f} ms",
    )
    report.check(set(seen.statuses) <= {"200", "429"}, f"answers were {seen.statuses}")
    report.check(seen.statuses.get("429", 0) > 0, "nothing was refused: this was no overload")
    report.aim(seen.goodput >= GOODPUT * capacity, f"goodput is below {GOODPUT:.0%} of capacity")
    report.aim(max(sizes) <= GROWTH * settled, "memory grows")
    report.aim(first < AT_ONCE_SECONDS, "the first request after it has to wait")


def _flood_with_deadlines(server: Server, report: Report, capacity: float, seconds: float) -> None:
    """Where the queue is longer than the patience, the device must not work for nobody."""
    computed = server.metric("gsop_batch_size_sum")
    seen = open_loop.run(
        f"{server.url}/predict?timeout_ms={DEADLINE_MS}",
        random_pngs(1)[0],
        PNG,
        rate=TIMES * capacity,
        seconds=seconds,
    )
    computed = server.metric("gsop_batch_size_sum") - computed
    answered = seen.statuses.get("200", 0)
    skipped = server.metric("gsop_skipped_total", reason="late")
    skipped += server.metric("gsop_skipped_total", reason="expired")
    report.note(
        with_deadlines_of=f"{DEADLINE_MS} ms: goodput {seen.goodput:.1f}/s "
        f"({seen.goodput / capacity:.0%}), {seen.statuses}, "
        f"{computed:.0f} computed for {answered} answered, {skipped:.0f} skipped",
    )
    report.check(seen.statuses.get("504", 0) > 0, "no deadline passed: this was no test of them")
    report.aim(computed <= answered / GOODPUT + 1, "the device computed what had expired")
    report.aim(seen.goodput >= 0.8 * capacity, "deadlines cost goodput")


def _leave(server: Server, report: Report, question: Question) -> None:
    """Clients that hang up free their slots, and are counted."""

    def counted() -> int:
        return int(server.metric("gsop_requests_total", route="/predict", status="499") - before)

    before = server.metric("gsop_requests_total", route="/predict", status="499")
    engine = server.engine()
    os.kill(engine, signal.SIGSTOP)  # or some are answered before they are gone
    try:
        for _ in range(LEAVERS):
            with socket.create_connection(where(server.url)) as connection:
                connection.sendall(question.data)
        with contextlib.suppress(AssertionError):
            eventually(lambda: counted() == LEAVERS)
        used = int(server.metric("gsop_slots", state="used"))
    finally:
        os.kill(engine, signal.SIGCONT)
    report.note(hung_up=f"{counted()} of {LEAVERS} counted, {used} slots still taken")
    report.check(counted() == LEAVERS, "clients that leave are not counted")
    report.check(used == 0, "clients that leave keep their slots")
