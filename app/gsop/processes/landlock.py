"""Which files a process may still open and whom it may reach: rules of the kernel's landlock(7).

Each version of the kernel's interface (its *ABI*) knows more kinds of access than the last; what
this kernel does not know is left out. Constants are those of linux/landlock.h.
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from gsop.processes.syscalls import call

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15

READ = _READ_FILE | _READ_DIR
"""Files are read and folders are listed; libraries are loaded."""

WRITE = READ | _WRITE_FILE
"""What is there is written to, and nothing is made, removed or cut short."""

ALL = (1 << 17) - 1
"""Whatever its user may do."""

_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
"""The kinds of access that a rule on a single file can allow; others are for folders."""

_ACCESS_TO_FILES = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15, 9: 1 << 16}
"""By the ABI that brought them: running, reading, writing, making and removing files; moving them
to other folders; cutting them short; controlling devices; connecting to sockets that are files."""

_ACCESS_TO_NETWORK = {4: 0b11, 10: 0b1100}
"""TCP ports to bind or connect to; UDP ports."""

_SCOPES = {6: 0b11}
"""Abstract Unix sockets and signals of those who are not in the same domain."""

_PATH_BENEATH, _NET_PORT = 1, 2
_BIND_TCP, _CONNECT_TCP, _CONNECT_UDP = 1, 1 << 1, 1 << 3
_ASK_VERSION = 1


def abi() -> int:
    """The version of the kernel's interface, from 1.

    Raises:
        OSError: ENOSYS if the kernel has no Landlock, EOPNOTSUPP if it is switched off.
    """
    return call("landlock_create_ruleset", None, 0, _ASK_VERSION)


def restrict(
    allowed: Iterable[tuple[Path, int]] = (),
    *,
    connects: Iterable[int] = (),
    listens: Iterable[int] = (),
    alone: bool = True,
) -> None:
    """Refuse this thread, and those that it will start, all but these files and these ports.

    What is open already stays so. The thread must have given up new privileges
    (``PR_SET_NO_NEW_PRIVS``).

    Args:
        allowed: files, and folders with all that is below them; :data:`READ`, :data:`WRITE` or
            :data:`ALL`. Those that are not there are passed over.
        connects: ports to which it may connect, on any host.
        listens: TCP ports on which it may listen.
        alone: whether signals to other processes and connections with them are refused too.

    Raises:
        OSError: if the kernel or a container forbids it.
    """
    version = abi()
    files = _known(_ACCESS_TO_FILES, version)
    attributes = struct.pack(
        "=QQQ",
        files,
        network := _known(_ACCESS_TO_NETWORK, version),
        _known(_SCOPES, version) if alone else 0,
    )
    ruleset = call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for path, access in allowed:
            _allow(ruleset, path, access & files)
        may = [(port, _CONNECT_TCP | _CONNECT_UDP) for port in connects]
        may += [(port, _BIND_TCP) for port in listens]
        for port, access in may if network else ():
            rule = struct.pack("=QQ", access & network, port)
            call("landlock_add_rule", ruleset, _NET_PORT, rule, 0)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _known(kinds: dict[int, int], version: int) -> int:
    return sum(bits for since, bits in kinds.items() if since <= version)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        call("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("=Qi", access, place), 0)
    finally:
        os.close(place)
