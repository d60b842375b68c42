"""Cages: what a process of the service may still do once it has all that it needs.

Whoever finds a fault in what reads strangers' bytes and takes over a process can do what that
process may. So each kind of process gives up what it does not need, for good:

=======  ==========================================================================================
decoder  keeps its socket, its memory and its processor time; any call but the few that decoding
         makes ends it
front    reads the files that it serves from, and those of its libraries; writes none, starts no
         program, looks into no other process
engine   starts no program, looks into no other process
loader   (who decodes for training) reads files and writes temporary ones, starts no program,
         looks into no other process, has no network
=======  ==========================================================================================

Three means of the kernel do it: Landlock (files and the network), seccomp (system calls), and
limits on resources. Where a kernel or a container does not give one of them, the others are used
all the same; :func:`missing` says which.
"""

import contextlib
import errno
import os
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from struct import pack

from gsop.environment import CageMode
from gsop.errors import ConfigError, SetupError
from gsop.processes import landlock, seccomp
from gsop.processes.import_path import import_path
from gsop.processes.seccomp import ALLOW, KILL, Rule, When, refuse
from gsop.processes.syscalls import call, prctl

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_CAPABILITIES_VERSION = 0x20080522

CPU_SECONDS = 600
"""Processor time after which a decoder is to leave (by SIGXCPU); another one takes its place. So
nobody who has taken one over keeps it for long."""

SPARE_CPU_SECONDS = 60
"""What it has for that, before the kernel ends it."""

_DECODING = (
    *("brk", "mremap", "munmap", "madvise", "recvfrom", "sendto", "setitimer", "futex"),
    *("write", "close", "clock_gettime", "gettimeofday", "getrandom", "sched_yield"),
    *("getpid", "gettid", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "restart_syscall"),
    *("set_robust_list", "rseq", "sched_getaffinity", "exit", "exit_group"),
)
"""What decoding calls, and what the C library calls of itself: to lock, to abort, to begin threads,
to tell the time where the kernel does not let it read the clock from memory."""

_PROGRAMS = ("execve", "execveat")
_OTHERS = ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp")
_DOORS = (
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
    *("mount", "umount2", "move_mount", "mount_setattr", "open_tree", "fsopen", "pivot_root"),
    *("chroot", "setns", "unshare", "open_by_handle_at", "init_module", "finit_module"),
    *("delete_module", "kexec_load", "kexec_file_load"),
)
"""Parts of the kernel in which faults were found again and again, and that nothing here uses."""

ENGINE_RULES = (
    *(Rule(name, refuse(errno.EPERM)) for name in (*_PROGRAMS, *_OTHERS, *_DOORS)),
    # It would do what the calls above do, and be seen by no filter. Who is told that the kernel has
    # it not goes another way.
    Rule("io_uring_setup", refuse(errno.ENOSYS)),
)
"""An engine's filter: all but these calls pass."""

_THREADS = (
    Rule("clone", ALLOW, When(0, _CLONE_THREAD, _CLONE_THREAD)),
    # A filter cannot see what it is asked for. The C library then takes the older one.
    Rule("clone3", refuse(errno.ENOSYS)),
)

FRONT_RULES = (
    *ENGINE_RULES,
    *_THREADS,
    *(Rule(name, refuse(errno.EPERM)) for name in ("clone", "fork", "vfork")),
)
"""A front's filter: all but these calls pass."""


LOADER_RULES = (
    *FRONT_RULES,
    Rule("socket", ALLOW, When(0, 0xFFFFFFFF, socket.AF_UNIX)),
    Rule("socket", refuse(errno.EPERM)),
)
"""A loader's filter: all but these calls pass."""


def decoder_rules(pid: int) -> tuple[Rule, ...]:
    """The filter of the decoder of that number: none but these calls pass."""
    return (
        *(Rule(name, ALLOW) for name in _DECODING),
        *_THREADS,
        # Nothing that it writes is ever run.
        Rule("mmap", ALLOW, When(2, _PROT_EXEC, 0)),
        Rule("mprotect", ALLOW, When(2, _PROT_EXEC, 0)),
        Rule("tgkill", ALLOW, When(0, 0xFFFFFFFF, pid)),  # abort() signals itself
    )


_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/etc", "/opt", "/nix/store", "/gnu/store")
"""Where libraries lie, and what they look up."""


_REASONS = {
    errno.ENOSYS: "the kernel does not have it, or a container hides it",
    errno.EOPNOTSUPP: "it is switched off: `lsm=` of the kernel's command line leaves it out",
    errno.EPERM: "a container forbids it",
    errno.EACCES: "a container forbids it",
}


def hide() -> None:
    """Let no other process of this user read or write this one's memory, environment or files.

    (``PR_SET_DUMPABLE``: nor does it leave a core file. Who may trace any process still may.)
    """
    if sys.platform == "linux":
        prctl(_PR_SET_DUMPABLE, 0)


def cage_decoder(keep: Sequence[int], mode: CageMode) -> None:
    """Have this process do nothing from now on but to decode what comes through ``keep``.

    It must have everything imported and mapped, and one thread; it may start others.

    Args:
        keep: descriptors that stay open. Those of the standard streams become the null device's.
        mode: ``GSOP_CAGE``.

    Raises:
        SetupError: if the cage is required and cannot be made.
    """
    if mode == "off":
        return
    _keep_descriptors(keep)
    hide()
    _shut(
        mode,
        _give_up_capabilities,
        landlock.restrict,
        _limit_resources,  # now: the rules of Landlock are handed over by a descriptor
        lambda: seccomp.install(decoder_rules(os.getpid()), KILL),
    )


def cage_front(
    readable: Iterable[Path],
    mode: CageMode,
    *,
    connects: Iterable[int] = (),
    listens: Iterable[int] = (),
) -> None:
    """Have this thread, and all that it starts, write no file and start no program.

    Args:
        readable: what is read beside the interpreter's and the system's own libraries.
        mode: ``GSOP_CAGE``.
        connects: ports to which it connects beside the service's own sockets.
        listens: TCP ports that it will listen on; of others it gets what is listening already.

    Raises:
        SetupError: if the cage is required and cannot be made.
    """
    if mode == "off":
        return
    folders = (*_SYSTEM_FOLDERS, sys.prefix, sys.base_prefix, *import_path(), "/proc/self")
    files = [(path, landlock.READ) for path in (*map(Path, folders), *readable)]
    files += [(Path(device), landlock.WRITE) for device in (os.devnull, "/dev/urandom")]
    _shut(
        mode,
        # It signals its decoders and connects with engines: it is not alone.
        lambda: landlock.restrict(files, connects=connects, listens=listens, alone=False),
        lambda: seccomp.install(FRONT_RULES, ALLOW),
    )


def cage_engine(mode: CageMode) -> None:
    """Have this process, in all its threads, start no program and look into no other process.

    Its files are left to it: what a device's driver opens, and when, is the driver's to know.

    Args:
        mode: ``GSOP_CAGE``.

    Raises:
        SetupError: if the cage is required and cannot be made.
    """
    if mode != "off":
        _shut(mode, lambda: seccomp.install(ENGINE_RULES, ALLOW, all_threads=True))


def cage_loader(mode: CageMode) -> None:
    """Have this process, which decodes for training, write temporary files only and reach nobody.

    Args:
        mode: ``GSOP_CAGE``.

    Raises:
        SetupError: if the cage is required and cannot be made.
    """
    if mode == "off":
        return
    files = [(Path("/"), landlock.READ), (Path(os.devnull), landlock.WRITE)]
    # Images go to the training as shared memory, whose socket is a temporary file.
    files += [(Path(folder), landlock.ALL) for folder in ("/dev/shm", tempfile.gettempdir())]  # noqa: S108
    hide()
    _shut(mode, lambda: landlock.restrict(files), lambda: seccomp.install(LOADER_RULES, ALLOW))


def missing() -> tuple[str, ...]:
    """What of the cages this system does not give, each with the reason.

    Both means are tried, in a thread that ends with it.
    """
    found: list[str] = []

    def look() -> None:
        means: dict[str, Callable[[], None]] = {
            "Landlock": landlock.restrict,
            "seccomp": lambda: seccomp.install((), ALLOW),
        }
        for name, use in means.items():
            try:
                _give_up_privileges()
                use()
            except OSError as error:
                found.append(f"{name} ({_reason(error)})")

    thread = threading.Thread(target=look, name="cage")
    thread.start()
    thread.join()
    return tuple(found)


def check(mode: CageMode) -> str | None:
    """What the operator is to know of the cages; ``None`` if they are whole, or not wanted.

    Raises:
        ConfigError: if they are required and not to be had.
    """
    lacking = "; ".join(missing()) if mode != "off" else ""
    if lacking and mode == "required":
        raise ConfigError(
            f"GSOP_CAGE=required, and this system does not give {lacking}: start it where it is "
            "given, or set GSOP_CAGE=auto to serve without"
        )
    return f"the cages of processes are not whole: no {lacking}" if lacking else None


def _shut(mode: CageMode, *means: Callable[[], None]) -> None:
    """Use each of the kernel's means, after what they demand."""
    for use in (_give_up_privileges, *means):
        try:
            use()
        except OSError as error:
            if mode == "required":
                raise SetupError(f"GSOP_CAGE=required: {_reason(error)}") from error
            if error.errno not in _REASONS:  # it could be caged, and is not
                raise


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, str(error.strerror))


def _keep_descriptors(keep: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    for file in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(file.name)
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):  # the one that they were listed by
                os.close(descriptor)


def _limit_resources() -> None:
    """No new descriptors, no files that grow, and no more than its share of processor time."""
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + SPARE_CPU_SECONDS))


def _give_up_privileges() -> None:
    """No program that it might start gives it more rights (``setuid``)."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _give_up_capabilities() -> None:
    """What root's processes may do that others may not, such as raise limits (capabilities(7))."""
    call("capset", pack("=Ii", _CAPABILITIES_VERSION, 0), pack("=6I", *[0] * 6))
