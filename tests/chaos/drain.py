"""Services that are told to stop while they are in use."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.chaos.clients import Load, questions
from tests.chaos.deaths import ready
from tests.chaos.report import Report
from tests.support import ROOT, Server, eventually, in_background, random_pngs, send_all

IN_FLIGHT = 100
DELAY_SECONDS = 3.0
DRAIN_SECONDS = 20.0
CLIENTS = 16
IMAGES = random_pngs(16)


def drain(store: Path, seconds: float) -> Report:
    """SIGTERM with 100 in flight and others coming: all are answered, readiness goes off first."""
    report = Report()
    began, rounds, slowest = time.monotonic(), 0, 0.0
    while not rounds or time.monotonic() - began < seconds:
        slowest = max(slowest, _drain_once(store, report))
        rounds += 1
    report.note(rounds=rounds, gone_after=f"{slowest:.1f} s at most, {DELAY_SECONDS:.0f} of delay")
    return report


def _drain_once(store: Path, report: Report) -> float:
    settings = {"slots": 256, "drain_seconds": DRAIN_SECONDS, "drain_delay_seconds": DELAY_SECONDS}
    with Server(store, models="tiny", fronts=2, **settings) as server:
        asked = questions(server.wait_ready(), IMAGES)
        with Load(server.url, asked, CLIENTS) as load:
            eventually(lambda: load.tally.right > CLIENTS)
            engine = server.engine()
            os.kill(engine, signal.SIGSTOP)
            join = in_background(
                send_all(server.url, IMAGES, clients=IN_FLIGHT, requests=IN_FLIGHT)
            )
            eventually(lambda: server.metric("gsop_slots", state="used") >= IN_FLIGHT + CLIENTS, 60)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: not ready(server))
            off = time.monotonic() - began
            # Readiness is off, and yet who comes is served: balancers are still looking elsewhere.
            served_on = httpx.get(f"{server.url}/models", timeout=DRAIN_SECONDS).status_code == 200
            os.kill(engine, signal.SIGCONT)
            status = server.process.wait(2 * DRAIN_SECONDS)
            took = time.monotonic() - began
        statuses = [answer.status_code for _, answer in join()]
        tally = load.tally
        # Who comes once nobody listens is turned away, not lost.
        tally.unreachable = 0
        tally.statuses.pop(503, None)
    answered = statuses.count(200)
    lost = len(tally.broken) + tally.unanswered
    report.note(
        in_flight_answered=f"{answered} of {IN_FLIGHT}",
        readiness_off_after=f"{off * 1000:.0f} ms",
        other_clients=f"{tally.right} answered right, {lost} broken",
        exit_status=status,
    )
    report.check(answered == IN_FLIGHT, f"{IN_FLIGHT - answered} in flight were not answered")
    report.check(served_on, "nobody was served in GSOP_DRAIN_DELAY_SECONDS")
    report.check(not lost and not tally.statuses, f"other clients: {tally.failed}")
    report.check(status == 0, f"the exit status is {status}")
    report.check(took < DELAY_SECONDS + DRAIN_SECONDS, f"it took {took:.1f} s to leave")
    return took


def rolling_restart(store: Path, seconds: float) -> Report:
    """Two instances behind nginx, restarted in turn under load: no client notices."""
    report = Report()
    ports = free_ports(3)
    settings = {"models": "tiny", "drain_delay_seconds": 1}
    with contextlib.ExitStack() as stack:
        instances: list[Server] = []

        def start(port: int) -> Server:
            return stack.enter_context(Server(store, "--port", str(port), **settings))

        instances = [start(port).wait_ready() for port in ports[1:]]
        asked = questions(instances[0], IMAGES)
        url = stack.enter_context(nginx(ports))
        began, restarts = time.monotonic(), 0
        with Load(url, asked, CLIENTS) as load:
            eventually(lambda: load.tally.right > CLIENTS)
            while restarts < len(instances) or time.monotonic() - began < seconds:
                which = restarts % 2
                status = instances[which].terminate()
                report.check(status == 0, f"an instance ended with {status}")
                instances[which] = start(ports[1 + which]).wait_ready()
                restarts += 1
        tally = load.tally
        report.note(
            restarts=restarts,
            answered_right=tally.right,
            failed=tally.failed or 0,
            longest_wait=f"{tally.seconds:.1f} s",
        )
        report.check(not tally.failed, f"requests failed: {tally.failed}")
    return report


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody has now."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


@contextmanager
def nginx(ports: list[int]) -> Iterator[str]:
    """Run nginx with ``deploy/nginx.conf`` on other ports (its own, the instances'); its URL."""
    own, *others = ports
    text = (
        (ROOT / "deploy" / "nginx.conf").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{own}")
    )
    shipped = re.findall(r"^ *server 127\.0\.0\.1:\d+ .*\n", text, re.MULTILINE)
    assert len(shipped) == 2, "one for each of two instances"
    ours = [shipped[0].replace("127.0.0.1:8001", f"127.0.0.1:{port}") for port in others]
    text = text.replace("".join(shipped), "".join(ours))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nginx.conf").write_text(text)
        command = ["nginx", "-p", folder, "-c", "nginx.conf", "-g", "master_process off;"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lines.extend, args=(process.stderr,))
        reader.start()
        try:
            eventually(lambda: _answers(ports[0], process, lines))
            yield f"http://127.0.0.1:{ports[0]}"
        finally:
            process.terminate()
            process.wait()
            reader.join()
            process.stderr.close()


def _answers(port: int, process: "subprocess.Popen[str]", lines: list[str]) -> bool:
    assert process.poll() is None, "".join(lines)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
