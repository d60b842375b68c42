"""Decoding in processes of its own: what an image can do to a decoder, it does to one of these.

    python -m gsop.serving.decoder CONTROL_FD PLAN_JSON

The *nursery* imports the decoders once and forks a *helper* for each socket that it is sent, so
that a helper that died is replaced within milliseconds. A helper reads one file at a time from the
memory that it shares with its front, and puts the pixels behind it; a timer in the kernel ends it
if that takes too long. It sees no slot, no key and no other client's image, leaves no core file,
and its memory has a limit. Both leave when the other ends of their sockets are closed.
"""

import contextlib
import gc
import logging
import mmap
import os
import resource
import signal
import socket
import struct
import sys

import numpy as np
from pydantic import BaseModel, ConfigDict

from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import InputSpec, decode_into
from gsop.logs import configure
from gsop.processes.scheduling import DECODER_NICENESS, let_work_gather

log = logging.getLogger("gsop.decoder")

JOB = struct.Struct("<IH")
"""Front to helper: bytes of the file, and which of the plan's specs it is decoded for."""

BORN = b"+"
"""Helper to front, once: it is there and takes jobs."""

DECODED = b"\0"
"""Helper to front: the pixels are there. Any other answer is an error's mark and its text."""

ERRORS: dict[bytes, type[InvalidImage | ImageTooLarge]] = {
    b"\1": InvalidImage,
    b"\2": ImageTooLarge,
}

BYTES_A_PIXEL = 16
"""Memory that decoding may take: RGBA as decoded, composed over white, and as an array make 11."""

SPARE_BYTES = 256 * 2**20
"""Memory beside the pixels, for the decoders' own tables and for fragmentation."""

LARGE_BYTES = 2**20
"""Of files from this size on, the shared memory is given back at once."""


class Plan(BaseModel):
    """What a nursery and its helpers must know.

    Attributes:
        process: for the log.
        specs: how images are decoded, one spec a model.
        max_pixels: the largest image.
        max_bytes: the largest file.
        seconds: how long one image may take.
        log_level: as in the settings.
        log_format: as in the settings.
    """

    model_config = ConfigDict(frozen=True)

    process: str
    specs: tuple[InputSpec, ...]
    max_pixels: int
    max_bytes: int
    seconds: float
    log_level: str
    log_format: str

    @property
    def pixels_at(self) -> int:
        """Where the pixels begin in the shared memory; the file begins at 0."""
        return -(-self.max_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def shared_bytes(self) -> int:
        """Size of the memory that a front and a helper share."""
        return self.pixels_at + max(spec.height * spec.width * 3 for spec in self.specs)

    def pixels(
        self, shared: mmap.mmap, model: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The pixels in the shared memory, ``(H, W, 3)`` as the spec of that number wants them."""
        spec = self.specs[model]
        shape = (spec.height, spec.width, 3)
        return np.ndarray(shape, np.uint8, shared, self.pixels_at)


def main() -> None:
    """Fork a helper for each socket that comes, until the front closes the control socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    plan = Plan.model_validate_json(sys.argv[2])
    configure(plan.process, level=plan.log_level, form=plan.log_format, private=True)
    # The front alone ends us, by closing sockets: it may still wait for a helper while it drains.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a client's image
    gc.freeze()  # or the first collection in each helper would copy every page
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            break
        if os.fork() == 0:
            control.close()
            connection, shared = socket.socket(fileno=descriptors[0]), descriptors[1]
            _help(connection, mmap.mmap(shared, plan.shared_bytes), plan)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.wait()  # returns when the last helper is gone, since nobody else waits for them


def _help(connection: socket.socket, shared: mmap.mmap, plan: Plan) -> None:
    """Be a helper."""
    _limit_memory(plan)
    let_work_gather(DECODER_NICENESS)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever we are doing
    with contextlib.suppress(ConnectionError):  # the front is gone
        connection.send(BORN)
        while message := connection.recv(JOB.size):
            length, model = JOB.unpack(message)
            signal.setitimer(signal.ITIMER_REAL, plan.seconds)
            answer = _decode(shared[:length], model, shared, plan)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if length >= LARGE_BYTES:
                shared.madvise(mmap.MADV_REMOVE, 0, plan.pixels_at)
            connection.send(answer)


def _limit_memory(plan: Plan) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no file of anybody's
        taken = int(file.read().split()[0]) * mmap.PAGESIZE
    limit = taken + plan.max_pixels * BYTES_A_PIXEL + 2 * plan.max_bytes + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _decode(data: bytes, model: int, shared: mmap.mmap, plan: Plan) -> bytes:
    """Decode one file; the answer for the front."""
    try:
        out = plan.pixels(shared, model)
        decode_into(data, out, plan.specs[model], max_pixels=plan.max_pixels)
    except ImageTooLarge as error:
        return b"\2" + str(error).encode()
    except InvalidImage as error:
        return b"\1" + str(error).encode()
    except MemoryError:
        return b"\2" + b"The image takes too much memory to decode; send it scaled down."
    except Exception:  # whatever a decoder raises on hostile bytes: the image is at fault, ...
        log.exception("a decoder raised an error that is not foreseen")  # ... but we want to know
        return b"\1" + b"The image cannot be decoded; save it anew as JPEG or as PNG."
    return DECODED


if __name__ == "__main__":
    main()
