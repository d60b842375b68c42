"""What the kernel is told to refuse, by the versions of its interface. test_cage.py tries it."""

import errno
import os
import struct
from pathlib import Path

import pytest

from gsop.processes import landlock

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = 1 << 13, 1 << 14, 1 << 15, 1 << 16
FIRST = (1 << 13) - 1
TCP, UDP, SCOPES = 0b11, 0b1100, 0b11


class Kernel:
    """Takes calls as a kernel of some version does, and keeps what it was told."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.attributes: list[tuple[int, ...]] = []
        self.rules: list[tuple[int, str]] = []
        self.ports: list[tuple[int, ...]] = []
        self.restricted: list[int] = []

    def call(self, name: str, *arguments: int | bytes | None) -> int:
        match name, arguments:
            case "landlock_create_ruleset", (None, 0, 1):
                return self.version
            case "landlock_create_ruleset", (bytes(given), size, 0):
                assert size == len(given)
                self.attributes.append(struct.unpack("=QQQ", given))
                return os.open(os.devnull, os.O_RDONLY)
            case "landlock_add_rule", (int(), 1, bytes(given), 0):
                access, place = struct.unpack("=Qi", given)
                self.rules.append((access, os.readlink(f"/proc/self/fd/{place}")))  # noqa: PTH115
                return 0
            case "landlock_add_rule", (int(), 2, bytes(given), 0):
                self.ports.append(struct.unpack("=QQ", given))
                return 0
            case "landlock_restrict_self", (int(ruleset), 0):
                self.restricted.append(ruleset)
                return 0
        raise AssertionError(f"no kernel knows {name} {arguments}")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(99)
    monkeypatch.setattr(landlock, "call", made.call)
    return made


@pytest.mark.parametrize(
    ("version", "attributes"),
    [
        (1, (FIRST, 0, 0)),
        (2, (FIRST | REFER, 0, 0)),
        (3, (FIRST | REFER | TRUNCATE, 0, 0)),
        (4, (FIRST | REFER | TRUNCATE, TCP, 0)),
        (5, (FIRST | REFER | TRUNCATE | IOCTL_DEV, TCP, 0)),
        (6, (FIRST | REFER | TRUNCATE | IOCTL_DEV, TCP, SCOPES)),
        (8, (FIRST | REFER | TRUNCATE | IOCTL_DEV, TCP, SCOPES)),
        (9, (FIRST | REFER | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX, TCP, SCOPES)),
        (10, (FIRST | REFER | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX, TCP | UDP, SCOPES)),
        (99, (FIRST | REFER | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX, TCP | UDP, SCOPES)),
    ],
)
def test_all_that_a_kernel_knows_is_refused(
    kernel: Kernel, version: int, attributes: tuple[int, ...]
) -> None:
    kernel.version = version
    landlock.restrict()
    assert kernel.attributes == [attributes]
    assert not kernel.rules
    assert len(kernel.restricted) == 1


def test_who_is_not_alone_may_signal_and_connect(kernel: Kernel) -> None:
    landlock.restrict(alone=False)
    assert kernel.attributes[0][2] == 0


@pytest.mark.parametrize(("version", "rules"), [(3, []), (4, [(1, 8001)])])
def test_a_port_is_listened_on_where_the_kernel_would_refuse_it(
    kernel: Kernel, version: int, rules: list[tuple[int, int]]
) -> None:
    kernel.version = version
    landlock.restrict(listens=[8001])
    assert kernel.ports == rules


def test_folders_and_files_are_allowed_what_each_can_be(kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    allowed = [
        (tmp_path, landlock.READ),
        (file, landlock.READ),
        (Path(os.devnull), landlock.WRITE),
        (tmp_path / "absent", landlock.READ),
    ]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # as many as before
    landlock.restrict(allowed)
    assert kernel.rules == [
        (READ_FILE | READ_DIR, str(tmp_path)),
        (READ_FILE, str(file)),
        (READ_FILE | WRITE_FILE, os.devnull),
    ]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_without_it_says_so(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(landlock, "call", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        landlock.restrict()
