"""An image that is to be decoded, and one decoder as its front sees it."""

import asyncio
import contextlib
import mmap
import os
import socket
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gsop.errors import DeadlineExceeded
from gsop.processes.nursery import Birth, Report
from gsop.processes.shared_memory import anonymous_memory, keep_size
from gsop.serving.decoder import BEGUN, JOB, Plan

CALL_SECONDS = 10.0
"""How often a decoder without work is asked whether it is there: somebody may have stopped it."""

Picture = bytes | npt.NDArray[np.uint8]
"""A file; or pixels ``(3, H, W)``, R, G, B, of the size of the model's input."""

Fork = Callable[[Birth], Report]
"""Has a nursery fork a process; raises OSError if none can be had now."""


class Effort:
    """What the images of one request may cost together.

    Attributes:
        seconds: of decoders' time, that are left.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Decoding:
    """An image that waits for its pixels.

    Attributes:
        image: the file's bytes.
        model: which of the plan's specs it is decoded for.
        out: ``(H, W, 3)`` uint8 that receives the pixels, or ``(N,)`` a bundle of them.
        future: done when they are there.
        client: whose turn it takes.
        effort: what its request may still cost.
        tries: decoders that died on it.
        deaths: decoders that died with it in hand, whether they had begun with it or not.
    """

    def __init__(
        self,
        image: bytes,
        model: int,
        out: npt.NDArray[np.uint8],
        future: asyncio.Future[None],
        client: str,
        effort: "Effort",
    ) -> None:
        self.image, self.model, self.out, self.future = image, model, out, future
        self.client, self.effort = client, effort
        self.tries = self.deaths = 0

    @property
    def as_bundle(self) -> bool:
        """Whether planes will do (:mod:`gsop.images.planes`)."""
        return self.out.ndim == 1

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.future.done():
            self.future.set_exception(
                DeadlineExceeded("the deadline passed while the image was decoded")
            )


class Decoder:
    """One decoding process: its socket, the memory shared with it, and what it is doing."""

    def __init__(self, plan: Plan, entry: str) -> None:
        self._plan = plan
        self._begun_at = plan.begun_at
        self._entry = entry
        self._number = 0
        self._descriptor = anonymous_memory("gsop-decoder")
        os.ftruncate(self._descriptor, plan.shared_bytes)
        keep_size(self._descriptor)
        self.shared = mmap.mmap(self._descriptor, plan.shared_bytes)
        self.connection: socket.socket | None = None
        self.report: Report | None = None
        self.broke_rules = False
        self.decoding: Decoding | None = None
        self.began = self.called = self.heard = 0.0
        self.is_born = False

    def be_born(self, fork: Fork) -> socket.socket:
        """Have the process forked; the front's end of its socket.

        Raises:
            OSError: if the nursery is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                descriptors = [theirs.fileno(), self._descriptor]
                told = [self._plan.model_dump_json()]
                self.report = fork(Birth("gsop-decoder", self._entry, told, descriptors))
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self.report.socket.setblocking(False)
        self.connection, self.broke_rules = ours, False
        self.called = self.heard = 0.0
        return ours

    def take(self, decoding: Decoding, now: float) -> None:
        """Have an image decoded.

        Raises:
            OSError: if the process is gone.
        """
        assert self.connection is not None, "an idle decoder has one"  # noqa: S101
        self.decoding, self.began = decoding, now
        self.shared[: len(decoding.image)] = decoding.image
        self._number += 1
        job = len(decoding.image), decoding.model, decoding.as_bundle, self._number
        self.connection.send(JOB.pack(*job))

    def call(self, now: float) -> None:
        """Ask whether it is there."""
        if self.connection is not None:
            with contextlib.suppress(OSError):  # whoever is dead is noticed otherwise
                self.connection.send(JOB.pack(0, 0, False, self._number))
                self.called = now

    @property
    def owes_life(self) -> bool:
        """Whether it was called and has said nothing since."""
        return self.called > self.heard

    def pixels_for(self, decoding: Decoding) -> npt.NDArray[np.uint8]:
        """What it has made of an image, in the memory that is shared with it."""
        return self._plan.pixels(self.shared, decoding.model, as_bundle=decoding.as_bundle)

    @property
    def has_begun(self) -> bool:
        """Whether the process has begun with what it was given last."""
        (number,) = BEGUN.unpack_from(self.shared, self._begun_at)
        return bool(number == self._number)

    def kill(self) -> None:
        """End the process, whatever it is doing; its connection tells when it is gone."""
        if self.report is not None:
            self.report.kill()

    def close(self) -> None:
        """Let the process go."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.report is not None:
            self.report.socket.close()
        os.close(self._descriptor)
