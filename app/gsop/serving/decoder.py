"""A decoding process: what an image can do to a decoder, it does to one of these.

A nursery forks it, so one that died is replaced within milliseconds. It reads one file at a time
from the memory that it shares with its front, and puts the pixels behind it; a timer in the kernel
ends it if that takes too long. It sees no slot, no key and no other caller's image, leaves no core
file, and its memory has a limit. Before the first file it goes into its cage
(:mod:`gsop.processes.cage`): whoever takes it over finds no file, no network and no other process.
So it writes no log either; what is to be logged, its front is told. It leaves when its front's end
of the socket is closed, or after its share of processor time.
"""

import contextlib
import logging
import math
import mmap
import resource
import signal
import socket
import struct
import warnings
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from gsop.environment import CageMode
from gsop.errors import ImageTooLarge, InvalidImage
from gsop.images import InputSpec, Pixels, decode_into, prepare
from gsop.images.planes import decode_bundle_into, input_shape, load_library
from gsop.logs import configure, describe
from gsop.processes.cage import cage_decoder
from gsop.processes.memory import keep_freed_blocks
from gsop.processes.scheduling import DECODER_NICENESS, let_work_gather

log = logging.getLogger("gsop.decoder")

JOB = struct.Struct("<IH?Q")
"""Front to decoder: bytes of the file, which of the plan's specs it is for, whether a bundle is
wanted, and a number."""

BEGUN = struct.Struct("<Q")
"""At the end of the shared memory: the number of the last job that the decoder began."""

BORN = b"+"
"""Decoder to front: it is there and takes jobs. Once by itself, and for each job of no bytes."""

DECODED = b"\0"
"""Decoder to front: the pixels are there. Other answers begin with the mark of what is wrong."""

ERRORS: dict[bytes, type[InvalidImage | ImageTooLarge]] = {
    b"\1": InvalidImage,
    b"\2": ImageTooLarge,
}
"""Marks that the error's text follows."""

UNFORESEEN = b"\3"
"""The mark of an error that is none of ours; what the log is to tell of it follows, in lines."""

ANSWER_BYTES = 4096
"""No answer is longer."""

BYTES_A_PIXEL = 16
"""Memory that decoding may take: RGBA as decoded, composed over white, and as an array make 11."""

SPARE_BYTES = 256 * 2**20
"""Memory beside the pixels, for the decoders' own tables and for fragmentation."""

LARGE_BYTES = 2**20
"""Of files from this size on, the shared memory is given back at once."""


KEPT_BYTES = 16 * 2**20
"""Memory that a decoder keeps between images; enough for one of 2 megapixels. To take it from the
kernel anew for each image made a 500 × 375 JPEG cost 3.0 ms instead of 1.9."""


class Answer(NamedTuple):
    """What a decoder says of an image.

    Attributes:
        error: what is wrong with it; ``None`` if its pixels are there.
        unforeseen: an error that is none of ours, for the log: its class and its places.
    """

    error: InvalidImage | ImageTooLarge | None = None
    unforeseen: tuple[str, ...] = ()

    @classmethod
    def parse(cls, message: bytes) -> Self:
        """The front's reading of it.

        Raises:
            ValueError: if no decoder says such a thing: who sends it has been taken over.
        """
        if message == DECODED:
            return cls()
        mark, text = message[:1], message[1:].decode()
        lines = text.split("\n")
        if not all(map(str.isprintable, lines)):
            raise ValueError("not a text")
        if mark == UNFORESEEN:
            return cls(
                InvalidImage("The image cannot be decoded; save it anew as JPEG or as PNG."),
                tuple(lines),
            )
        if mark not in ERRORS or len(lines) > 1:
            raise ValueError("not an error")
        return cls(ERRORS[mark](text))


class Plan(BaseModel):
    """What a decoder must know.

    Attributes:
        process: for the log.
        specs: how images are decoded, one spec a model.
        as_bundles: whether planes will do (:mod:`gsop.images.planes`).
        max_pixels: the largest image.
        max_bytes: the largest file.
        seconds: how long one image may take.
        cage: ``GSOP_CAGE``.
        log_level: as in the settings.
        log_format: as in the settings.
    """

    model_config = ConfigDict(frozen=True)

    process: str
    specs: tuple[InputSpec, ...]
    as_bundles: bool = False
    max_pixels: int
    max_bytes: int
    seconds: float
    cage: CageMode
    log_level: str
    log_format: str

    @property
    def pixels_at(self) -> int:
        """Where the pixels begin in the shared memory; the file begins at 0."""
        return -(-self.max_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def shared_bytes(self) -> int:
        """Size of the memory that a front and a decoder share."""
        return self.begun_at + BEGUN.size

    @property
    def begun_at(self) -> int:
        """Where :data:`BEGUN` lies in the shared memory; the pixels end there."""
        shapes = (input_shape(spec, as_bundles=self.as_bundles) for spec in self.specs)
        size = max(map(math.prod, shapes))  # a bundle has room for pixels, too
        return self.pixels_at + -(-size // BEGUN.size) * BEGUN.size

    def pixels(
        self, shared: mmap.mmap, model: int, *, as_bundle: bool
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The pixels in the shared memory, as the spec of that number wants them, or a bundle."""
        shape = input_shape(self.specs[model], as_bundles=as_bundle)
        return np.ndarray(shape, np.uint8, shared, self.pixels_at)


def main(plan_json: str, connection_fd: int, shared_fd: int) -> None:
    """Decode whatever comes, until the front closes its end."""
    plan = Plan.model_validate_json(plan_json)
    configure(plan.process, level=plan.log_level, form=plan.log_format, private=True)
    # The front alone ends us, by closing the socket: it may still wait for us while it drains.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever we are doing
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a client's image
    keep_freed_blocks(KEPT_BYTES)
    let_work_gather(DECODER_NICENESS)
    shared = mmap.mmap(shared_fd, plan.shared_bytes)
    if plan.as_bundles:
        load_library()  # now, and not with a stranger's first file
    _limit_memory(plan)
    prepare()
    warnings.simplefilter("ignore")  # to tell of one, Python would open the file of its code
    with (
        socket.socket(fileno=connection_fd) as connection,
        contextlib.suppress(ConnectionError),  # the front is gone
    ):
        cage_decoder([connection_fd], plan.cage)
        connection.send(BORN)
        _serve(connection, shared, plan)


def _serve(connection: socket.socket, shared: mmap.mmap, plan: Plan) -> None:
    tired: list[int] = []
    signal.signal(signal.SIGXCPU, lambda number, _: tired.append(number))
    while not tired and (message := connection.recv(JOB.size)):
        length, model, as_bundle, number = JOB.unpack(message)
        if not length:
            connection.send(BORN)
            continue
        BEGUN.pack_into(shared, plan.begun_at, number)
        signal.setitimer(signal.ITIMER_REAL, plan.seconds)
        out = plan.pixels(shared, model, as_bundle=as_bundle)
        decode = decode_bundle_into if as_bundle else decode_into
        answer = _decode(decode, shared[:length], out, plan.specs[model], plan.max_pixels)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if length >= LARGE_BYTES:
            shared.madvise(mmap.MADV_REMOVE, 0, plan.pixels_at)
        connection.send(answer)


def _limit_memory(plan: Plan) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no file of anybody's
        taken = int(file.read().split()[0]) * mmap.PAGESIZE
    limit = taken + plan.max_pixels * BYTES_A_PIXEL + 2 * plan.max_bytes + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _decode(
    decode: Callable[..., None], data: bytes, out: Pixels, spec: InputSpec, max_pixels: int
) -> bytes:
    """Decode one file; the answer for the front."""
    try:
        decode(data, out, spec, max_pixels=max_pixels)
    except ImageTooLarge as error:
        return b"\2" + str(error).encode()
    except InvalidImage as error:
        return b"\1" + str(error).encode()
    except MemoryError:
        return b"\2" + b"The image takes too much memory to decode; send it scaled down."
    except Exception as error:  # noqa: BLE001  # whatever a decoder raises on hostile bytes: ...
        return UNFORESEEN + _told(error)  # ... the image is at fault, but we want to know
    return DECODED


def _told(error: Exception) -> bytes:
    """An error's class and the places that it came through, without its message."""
    members = describe(error, private=True)
    lines = [members["error"], *members["where"]]
    return "\n".join(lines).encode()[: ANSWER_BYTES - 1]
