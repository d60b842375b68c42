"""System calls by their numbers: those that the C library has no function for, and their names.

The numbers are the kernel's (``arch/x86/entry/syscalls/syscall_64.tbl``, and
``include/uapi/asm-generic/unistd.h`` for aarch64); they never change.
"""

import ctypes
import errno
import os
import sys
from typing import NamedTuple


class Machine(NamedTuple):
    """A kind of processor.

    Attributes:
        audit: how the kernel's filters call it (``AUDIT_ARCH_…`` of linux/audit.h).
        column: where its numbers are in :data:`NUMBERS`.
    """

    audit: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}
"""By the name that uname(2) has for them."""

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # memory
    "brk": (12, 214),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    # descriptors
    "close": (3, 57),
    "recvfrom": (45, 207),
    "sendto": (44, 206),
    "socket": (41, 198),
    "write": (1, 64),
    # time, threads, signals
    "clock_gettime": (228, 113),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "set_robust_list": (273, 99),
    "setitimer": (38, 103),
    "tgkill": (234, 131),
    # beginnings and ends of processes
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fork": (57, None),
    "vfork": (58, None),
    # a look into other processes
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    # doors of the kernel that no image needs
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "request_key": (249, 218),
    "setns": (308, 268),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    # what cages are made with
    "capset": (126, 91),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "seccomp": (317, 277),
}
"""On x86_64 and on aarch64; ``None`` where a machine has no such call."""

_libc = ctypes.CDLL(None, use_errno=True)


def machine_name() -> str:
    """This process's, as uname(2) has it; another name where it is one of 32 bits."""
    name = os.uname().machine
    return name if sys.maxsize > 2**32 else f"{name} (32 bits)"


def number(name: str, machine: str) -> int | None:
    """A call's number; ``None`` if the machine has no such call, or is none of :data:`MACHINES`."""
    return NUMBERS[name][MACHINES[machine].column] if machine in MACHINES else None


def call(name: str, *arguments: int | bytes | None) -> int:
    """Have the kernel do it; what it returned.

    Args:
        name: of the call.
        arguments: bytes are handed over by their address.

    Raises:
        OSError: as the kernel refuses it; ENOSYS also where the number is not known.
    """
    which = number(name, machine_name())
    if sys.platform != "linux" or which is None:
        raise OSError(errno.ENOSYS, "not known on this machine")
    result = _libc.syscall(ctypes.c_long(which), *map(_as_word, arguments))
    return _checked(int(result))


def prctl(option: int, value: int | bytes) -> None:
    """Change something about this process, or this thread (prctl(2)).

    Raises:
        OSError: as the kernel refuses it.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "not known on this machine")
    _checked(_libc.prctl(option, *map(_as_word, (value, 0, 0, 0))))


def _as_word(argument: int | bytes | None) -> "ctypes.c_long | ctypes.c_char_p":
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
