"""What children of the tests' nurseries do."""

import json
import os
import socket
import sys
import time
from pathlib import Path

from gsop.errors import ConfigError
from gsop.processes.lifeline import leave_with_supervisor
from gsop.processes.nursery import Birth, Line


def tell(what: str, lifeline: int, report: int) -> None:
    """Write down something about this process, and leave with the lifeline."""
    facts = {
        "pid": os.getpid(),
        "path": sys.path,
        "environment": dict(os.environ),
        "files": sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()),
        "name": Path("/proc/self/comm").read_text().strip(),
        "says": what,
    }
    os.write(report, json.dumps(facts).encode())
    os.close(report)
    socket.socket(fileno=lifeline).recv(1)


def refuse(lifeline: int) -> None:
    """Find that it cannot be set up."""
    raise ConfigError("GSOP_THING is wrong: set it right")


def leave_with(status: int, lifeline: int) -> None:
    """End with a status of its own."""
    raise SystemExit(status)


def fail(lifeline: int) -> None:
    """Run into a defect."""
    raise ZeroDivisionError


def stand_still(lifeline: int) -> None:
    """Take any time, but leave with its supervisor."""
    leave_with_supervisor(socket.socket(fileno=lifeline), lambda *_: None)
    while True:
        time.sleep(60)


def have_a_child(lifeline: int, line: int) -> None:
    """Have another one forked, and outlive it."""
    Line(socket.socket(fileno=line)).fork(Birth("grandchild", f"{__name__}:nothing")).socket.close()
    socket.socket(fileno=lifeline).recv(1)


def nothing() -> None:
    """End at once."""
