"""Engines, fronts and supervisors that are killed while they serve."""

import contextlib
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.clients import Load, questions, where
from tests.chaos.memory import open_files
from tests.chaos.report import Report
from tests.support import Server, eventually, in_background, random_pngs, send_all

EVERY_SECONDS = 3.0
CLIENTS = 32
SLOTS = 64
IMAGES = random_pngs(16)
GONE_SECONDS = 30.0
BACK_SECONDS = 90.0
"""On a machine with other things to do."""


def kill_engine(store: Path, seconds: float) -> Report:
    """An engine killed every 3 s: no request fails, every answer is right."""
    report = Report()
    with Server(store, models="tiny", fronts=2, log_format="json") as server:
        asked = questions(server.wait_ready(), IMAGES)
        kills = 0
        with Load(server.url, asked, CLIENTS) as load:
            for _ in ticks(seconds):
                os.kill(eventually(lambda: engine_of(server)), signal.SIGKILL)
                kills += 1
            eventually(lambda: ready(server), BACK_SECONDS)
        tally = load.tally
        # A killed engine is counted when its end is seen.
        eventually(lambda: server.metric("gsop_engine_restarts_total") >= kills)
        report.note(
            kills=kills,
            answered_right=tally.right,
            failed=tally.failed or 0,
            sent_again=int(server.metric("gsop_resent_total")),
            longest_wait=f"{tally.seconds:.1f} s",
        )
        report.check(tally.right > kills, "hardly anything was answered")
        report.check(not tally.failed, f"requests failed: {tally.failed}")
        check_at_rest(server, report)
    return report


def kill_front(store: Path, seconds: float) -> Report:
    """A front of two killed every 3 s: what it held breaks, and nothing else."""
    report = Report()
    with Server(store, models="tiny", fronts=2, slots=SLOTS, slots_per_client=SLOTS) as server:
        asked = questions(server.wait_ready(), IMAGES)
        descriptors = open_files(server.engine())
        kills, held = 0, set[int]()
        with Load(server.url, asked, CLIENTS) as load:
            for _ in ticks(seconds):
                front = eventually(lambda: serving(server), BACK_SECONDS)
                os.kill(front, signal.SIGSTOP)
                # From here on it takes no connection that we do not see.
                eventually(lambda front=front: is_stopped(front))  # type: ignore[misc]  # a default argument binds it
                held |= ports_held(front, server)
                os.kill(front, signal.SIGKILL)
                kills += 1
            eventually(lambda: ready(server), BACK_SECONDS)
        tally = load.tally
        others = set(tally.broken) - held
        tally.broken.clear()
        report.note(
            kills=kills,
            answered_right=tally.right,
            connections_held_by_the_killed=len(held),
            others_broken=len(others),
            otherwise_failed=tally.failed or 0,
            longest_wait=f"{tally.seconds:.1f} s",
        )
        report.check(tally.right > kills, "hardly anything was answered")
        report.check(not others, f"{len(others)} connections broke that no killed front held")
        report.check(not tally.failed, f"requests failed: {tally.failed}")
        eventually(lambda: len(fronts_of(server)) == 2, BACK_SECONDS)
        check_at_rest(server, report)
        used = fill(server)
        report.note(slots_usable_after=f"{used} of {SLOTS}")
        report.check(used == SLOTS, f"{SLOTS - used} slots have leaked")
        try:
            eventually(lambda: open_files(server.engine()) <= descriptors)
        except AssertionError:
            report.faults.append("the engine keeps the sockets of dead fronts")
    return report


def kill_supervisor(store: Path, seconds: float) -> Report:
    """The supervisor killed: nothing of it is left, and the next start works."""
    report = Report()
    port, rounds, longest = 0, 0, 0.0
    end = time.monotonic() + seconds
    while not rounds or time.monotonic() < end:
        starting = Server(store, "--port", str(port), models="tiny", fronts=2)
        with temporary_files(starting, report), starting as server:
            port = int(server.url.rpartition(":")[2])
            is_loaded = rounds % 2 == 0  # else it is killed while it still starts
            if is_loaded:
                asked = questions(server.wait_ready(), IMAGES)
                with Load(server.url, asked, CLIENTS) as load:
                    eventually(lambda load=load: load.tally.right > CLIENTS)  # type: ignore[misc]  # a default argument binds it
                    longest = max(longest, _kill(server, report))
            else:
                longest = max(longest, _kill(server, report))
        rounds += 1
    report.note(kills=rounds, everything_gone_after=f"{longest:.2f} s at most")
    with Server(store, "--port", str(port), models="tiny") as server:
        report.check(bool(server.wait_ready().predict(IMAGES[0])), "the next start does not answer")
    return report


def _kill(server: Server, report: Report) -> float:
    below = server.descendants()
    server.process.kill()
    began = time.monotonic()
    try:
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), GONE_SECONDS)
    except AssertionError:
        left = [command for pid, command in below.items() if Path(f"/proc/{pid}").exists()]
        report.faults.append(f"{left} outlived the supervisor")
    took = time.monotonic() - began
    left = [path.name for path in Path("/dev/shm").glob("*gsop*")]  # noqa: S108
    report.check(not left, f"shared memory is left: {left}")
    return took


@contextmanager
def temporary_files(server: Server, report: Report) -> Iterator[None]:
    """Give a server that is not started yet a folder of its own for such, and look into it."""
    with tempfile.TemporaryDirectory() as folder:
        server.environment["TMPDIR"] = folder
        yield
        left = [path.name for path in Path(folder).iterdir()]
        report.check(not left, f"temporary files are left: {left}")


# ── what the scenarios share ─────────────────────────────────────────────────────────────────────


def ticks(seconds: float, every: float = EVERY_SECONDS) -> Iterator[int]:
    """Numbers, one each ``every`` seconds from now on, however long the caller takes."""
    start = time.monotonic()
    for number in range(1, max(1, round(seconds / every)) + 1):
        time.sleep(max(0.0, start + number * every - time.monotonic()))
        yield number


def engine_of(server: Server) -> int | None:
    """The engine's pid, if it is there."""
    found = [pid for pid, command in server.descendants().items() if "gsop-engine-0" in command]
    return found[0] if found else None


def fronts_of(server: Server) -> list[int]:
    """Pids of the fronts, the oldest first."""
    below = server.descendants()
    return sorted(pid for pid, command in below.items() if "gsop-front" in command)


def serving(server: Server) -> int | None:
    """The oldest front that has clients: one that is still being started has nothing to lose."""
    return next((pid for pid in fronts_of(server) if ports_held(pid, server)), None)


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has had its effect."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def ready(server: Server) -> bool:
    """Whether ``/readyz`` says yes."""
    try:
        with socket.create_connection(where(server.url), 10) as asker:
            asker.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return asker.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:  # a front was killed, or none is there yet
        return False


def ports_held(pid: int, server: Server) -> set[int]:
    """The clients' ports of the connections that a front has accepted."""
    wanted = int(server.url.rpartition(":")[2])
    peers = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.partition(":")[2], 16) for address in fields[1:3])
        if local == wanted:
            peers[fields[9]] = remote
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if found := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                inodes.add(found[1])
    return {port for inode, port in peers.items() if inode in inodes}


def fill(server: Server) -> int:
    """How many slots can be used at once: the engine stands still, and clients come until 429."""
    engine = server.engine()
    os.kill(engine, signal.SIGSTOP)
    try:
        # The kernel spreads them over the fronts as it likes.
        join = in_background(send_all(server.url, IMAGES, clients=8 * SLOTS, requests=8 * SLOTS))
        eventually(lambda: server.metric("gsop_requests_total", status="429") >= 7 * SLOTS)
        used = int(server.metric("gsop_slots", state="used"))
    finally:
        os.kill(engine, signal.SIGCONT)
    join()
    return used


def check_at_rest(server: Server, report: Report) -> None:
    """No slot stays taken once nobody asks."""
    try:
        eventually(lambda: server.metric("gsop_slots", state="used") == 0)
    except AssertionError:
        report.faults.append("slots are still taken")
