"""What somebody might try who has taken over a decoder. Each way out returns once it is out."""

import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE = 0x4206
_PERSONALITY_NOW = 0xFFFFFFFF


class Outside(NamedTuple):
    """What is beyond the cage.

    Attributes:
        front: pid of the decoder's front.
        keys: a file with API keys.
        store: a folder with a model.
        port: of a TCP socket of the loopback interface that listens.
        address: of a Unix socket that listens; its name without the leading zero byte is also that
            of an abstract one.
    """

    front: int
    keys: str
    store: str
    port: int
    address: str


def read_keys(outside: Outside) -> None:
    assert "secret" in Path(outside.keys).read_text()


def list_the_store(outside: Outside) -> None:
    assert list(Path(outside.store).iterdir())


def write_into_the_store(outside: Outside) -> None:
    Path(outside.store, "planted").write_text("x")


def write_where_anybody_may(_: Outside) -> None:
    Path("/dev/shm/gsop-escaped").write_text("x")  # noqa: S108  # a decoder of this test alone
    Path("/dev/shm/gsop-escaped").unlink()  # noqa: S108


def remove_the_keys(outside: Outside) -> None:
    copy = f"{outside.keys}.again"
    Path(copy).symlink_to(outside.keys)
    Path(copy).unlink()


def read_the_front_s_memory(outside: Outside) -> None:
    Path(f"/proc/{outside.front}/mem").open("rb").close()


def read_the_front_s_environment(outside: Outside) -> None:
    assert Path(f"/proc/{outside.front}/environ").read_bytes()


def take_the_front_s_files(outside: Outside) -> None:
    assert list(Path(f"/proc/{outside.front}/fd").iterdir())


def connect_by_tcp(outside: Outside) -> None:
    socket.create_connection(("127.0.0.1", outside.port), timeout=5).close()


def listen_by_tcp(_: Outside) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()


def send_by_udp(outside: Outside) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"secret", ("127.0.0.1", outside.port))


def connect_by_a_unix_socket(outside: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(outside.address)


def connect_by_an_abstract_socket(outside: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{outside.address}")


def fork(_: Outside) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def start_a_program(_: Outside) -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606  # that is what is tried


def trace_the_front(outside: Outside) -> None:
    result = _LIBC.ptrace(_PTRACE_SEIZE, outside.front, None, None)
    _check(result)


def signal_the_front(outside: Outside) -> None:
    os.kill(outside.front, 0)


def signal_a_thread_of_the_front(outside: Outside) -> None:
    _check(_LIBC.tgkill(outside.front, outside.front, 0))


def map_memory_to_run(_: Outside) -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def have_memory_run(_: Outside) -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    _check(_LIBC.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, protection))


def raise_its_limits(_: Outside) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def be_traced_again(_: Outside) -> None:
    _check(_LIBC.prctl(4, 1, 0, 0, 0))


def make_memory(_: Outside) -> None:
    os.close(os.memfd_create("escaped"))


def ask_for_a_ring(_: Outside) -> None:
    descriptor = _LIBC.syscall(425, 1, ctypes.create_string_buffer(200))
    _check(descriptor)
    os.close(descriptor)


def change_its_personality(_: Outside) -> None:
    _check(_LIBC.personality(_PERSONALITY_NOW))


def duplicate_a_file(_: Outside) -> None:
    os.close(fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3))


def wait_for_long(_: Outside) -> None:
    signal.sigtimedwait([signal.SIGUSR1], 0.01)


WAYS: dict[str, Callable[[Outside], None]] = {
    way.__name__: way
    for way in (
        *(read_keys, list_the_store, write_into_the_store, write_where_anybody_may),
        *(remove_the_keys, read_the_front_s_memory, read_the_front_s_environment),
        *(take_the_front_s_files, connect_by_tcp, listen_by_tcp, send_by_udp),
        *(connect_by_a_unix_socket, connect_by_an_abstract_socket, fork, start_a_program),
        *(trace_the_front, signal_the_front, signal_a_thread_of_the_front, map_memory_to_run),
        *(have_memory_run, raise_its_limits, be_traced_again, make_memory, ask_for_a_ring),
        *(change_its_personality, duplicate_a_file, wait_for_long),
    )
}


def _check(result: int) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
