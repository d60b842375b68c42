"""The front's side of its decoding helpers: a few processes, each with one image at a time.

Images wait here for a free helper, no longer than their deadlines; there are never more than slots.
A helper that dies is replaced at once. Who reads pixels copies them: a slot is written by its front
alone, so a request that is given up frees its slot while a helper still works on its image.
"""

import asyncio
import logging
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import DECODERS_LOST, Meter
from gsop.errors import DeadlineExceeded, InvalidImage
from gsop.serving.decoder import BORN, DECODED, ERRORS, JOB, Plan

log = logging.getLogger("gsop.front")

ANSWER_BYTES = 4096
"""More than any error's text has."""

PAUSE_SECONDS = 1.0
"""Before the next try where none could be born, as on a machine without memory left."""

KEPT_BYTES = 16 * 2**20
"""Memory that a helper keeps between images; enough for one of 2 megapixels."""

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
}
"""For the helpers' C library: to take memory from the kernel anew for each image made a 500 × 375
JPEG cost 3.0 ms instead of 1.9."""

LEAVE_SECONDS = 2.0
"""How long helpers may take to leave, beyond the image that they have in hand."""


class Job:
    """An image that waits for its pixels.

    Attributes:
        image: the file's bytes.
        model: which of the plan's specs it is decoded for.
        out: ``(H, W, 3)`` uint8 that receives the pixels.
        future: done when they are there.
        tries: helpers that died on it.
    """

    def __init__(
        self, image: bytes, model: int, out: npt.NDArray[np.uint8], future: asyncio.Future[None]
    ) -> None:
        self.image, self.model, self.out, self.future = image, model, out, future
        self.tries = 0

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.future.done():
            self.future.set_exception(
                DeadlineExceeded("the deadline passed while the image was decoded")
            )


class Helper:
    """One helper process: its socket, the memory shared with it, and what it is doing."""

    def __init__(self, plan: Plan) -> None:
        self._descriptor = _anonymous_memory(plan.shared_bytes)
        self.shared = mmap.mmap(self._descriptor, plan.shared_bytes)
        self.pixels = [plan.pixels(self.shared, model) for model in range(len(plan.specs))]
        self.connection: socket.socket | None = None
        self.job: Job | None = None
        self.began = 0.0
        self.is_born = False

    def give_birth(self, control: socket.socket) -> socket.socket:
        """Have the nursery fork the process; the front's end of its socket.

        Raises:
            OSError: if the nursery is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(control, [b"+"], [theirs.fileno(), self._descriptor])
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self.connection = ours
        return ours

    def close(self) -> None:
        """Let the process go."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        os.close(self._descriptor)


class Decoders:
    """A front's helpers. A context manager, entered in the event loop that uses it."""

    def __init__(
        self,
        plan: Plan,
        count: int,
        meter: Meter,
        module: Sequence[str] = ("-m", "gsop.serving.decoder"),
    ) -> None:
        """Prepare.

        Args:
            plan: what the helpers must know.
            count: how many there are.
            meter: counts those that die.
            module: what runs as nursery.
        """
        self._plan, self._meter, self._module = plan, meter, module
        self._helpers = [Helper(plan) for _ in range(count)]
        self._idle: list[Helper] = []
        self._queue: deque[Job] = deque()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for helper in self._helpers:
            self._start(helper)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for helper in self._helpers:
            if helper.connection is not None:
                self._loop.remove_reader(helper.connection)
            helper.close()
        for job in self._queue:
            job.future.cancel()
        self._end_nursery()

    async def decode(
        self, image: bytes, model: int, out: npt.NDArray[np.uint8], *, deadline: int
    ) -> None:
        """Decode an image into ``out``.

        Args:
            image: the file's bytes, at most the plan's ``max_bytes``.
            model: which of the plan's specs it is decoded for.
            out: ``(H, W, 3)`` uint8.
            deadline: monotonic ns after which nobody waits for it.

        Raises:
            InvalidImage: if it is none, takes too long, or breaks its decoder twice.
            ImageTooLarge: if it has too many pixels, or takes too much memory.
            DeadlineExceeded: if the deadline passes first.
        """
        job = Job(image, model, out, self._loop.create_future())
        timer = self._loop.call_later((deadline - time.monotonic_ns()) / 1e9, job.expire)
        self._queue.append(job)
        self._work()
        try:
            await job.future
        finally:
            timer.cancel()

    def _work(self) -> None:
        """Give what waits to whoever is free."""
        while self._queue and self._idle:
            job = self._queue.popleft()
            if job.future.done():  # given up, or late
                continue
            helper = self._idle.pop()
            helper.job, helper.began = job, self._loop.time()
            helper.shared[: len(job.image)] = job.image
            assert helper.connection is not None, "an idle helper has one"  # noqa: S101
            try:
                helper.connection.send(JOB.pack(len(job.image), job.model))
            except OSError:
                self._replace(helper)

    def _on_answer(self, helper: Helper) -> None:
        assert helper.connection is not None, "only then it is read"  # noqa: S101
        try:
            answer = helper.connection.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer:
            self._replace(helper)
            return
        if answer != BORN:
            self._finish(helper, answer)
        helper.is_born = True
        self._idle.append(helper)
        self._work()

    def _finish(self, helper: Helper, answer: bytes) -> None:
        job, helper.job = helper.job, None
        if job is None or job.future.done():  # given up, or late
            return
        if answer == DECODED:
            job.out[...] = helper.pixels[job.model]
            job.future.set_result(None)
        else:
            job.future.set_exception(ERRORS[answer[:1]](answer[1:].decode()))

    # ── deaths and births ────────────────────────────────────────────────────────────────────

    def _replace(self, helper: Helper) -> None:
        """A helper is dead: answer for what it had in hand, and have another one."""
        job, helper.job = helper.job, None
        assert helper.connection is not None, "a helper without one is not there"  # noqa: S101
        self._loop.remove_reader(helper.connection)
        helper.connection.close()
        helper.connection = None
        if helper in self._idle:
            self._idle.remove(helper)
        if job is not None:
            # Its own timer ends a helper that hangs, a little after it has got the job.
            hung = self._loop.time() - helper.began >= self._plan.seconds
            self._meter.count(DECODERS_LOST, "hung" if hung else "crashed")
            log.warning("a decoder %s on an image and is replaced", "hung" if hung else "crashed")
            self._answer_for(job, hung=hung)
        if helper.is_born:
            self._start(helper)
        else:
            self._loop.call_later(PAUSE_SECONDS, self._start, helper)

    def _answer_for(self, job: Job, *, hung: bool) -> None:
        job.tries += 1
        if job.future.done():
            return
        if hung:
            job.future.set_exception(
                InvalidImage(
                    f"The image takes more than {self._plan.seconds:g} s to decode; "
                    "send it scaled down, or save it anew as a baseline JPEG."
                )
            )
        elif job.tries == 1:
            self._queue.appendleft(job)  # the helper may have been killed for another reason
        else:
            job.future.set_exception(
                InvalidImage("The image breaks its decoder; save it anew as JPEG or as PNG.")
            )

    def _start(self, helper: Helper) -> None:
        """Have it born; it is idle once it says so."""
        if self._closed:
            return
        helper.is_born = False
        try:
            connection = helper.give_birth(self._nursery_control())
        except OSError:  # the nursery is gone; its successor may fail as it did
            self._end_nursery()
            self._loop.call_later(PAUSE_SECONDS, self._start, helper)
            return
        self._loop.add_reader(connection, self._on_answer, helper)

    def _nursery_control(self) -> socket.socket:
        """The socket that has helpers forked; starts the nursery if it is not there."""
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._nursery = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, *self._module, str(theirs.fileno()), self._plan.model_dump_json()],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )
        self._control = ours
        return ours

    def _end_nursery(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            try:
                self._nursery.wait(self._plan.seconds + LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None


def _environment() -> dict[str, str]:
    """Ours without the settings, keys among them, and with what suits a helper.

    No thread of numpy's beside forks, and the :data:`ALLOCATOR`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GSOP_")}
    return kept | ALLOCATOR | {"OPENBLAS_NUM_THREADS": "1"}


def _anonymous_memory(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gsop-decoder")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
