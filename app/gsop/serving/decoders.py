"""The front's side of its decoders: a few processes, each with one image at a time.

Images wait here for a free decoder, no longer than somebody waits for them; there are never more
than slots. Clients take turns (:mod:`gsop.serving.turns`), and the last free decoder is kept for
those whose images are quickly decoded: so nobody waits behind another's costly ones, while those
still find as many decoders as there are processors. A decoder that dies is replaced at once. Who
reads pixels copies them: a slot is written by its front alone, so a request that is given up frees
its slot while a decoder still works on its image.

A decoder may have been taken over by an image. What it says is believed only if it is an answer
that was waited for, and what it wrote is but pixels; its own timer it may have stopped, so that the
front has one too.
"""

import asyncio
import logging
import math
import signal
import time
from typing import Self

import numpy as np
import numpy.typing as npt

from gsop.arena.counters import Meter
from gsop.arena.families import DECODERS_LOST
from gsop.errors import ImageTooLarge, InvalidImage, RequestError
from gsop.images.planes import put_pixels
from gsop.processes.nursery import Report
from gsop.serving.decoder import ANSWER_BYTES, BORN, Answer, Plan
from gsop.serving.decoding import CALL_SECONDS, Decoder, Decoding, Effort, Fork, Picture
from gsop.serving.turns import Turns

log = logging.getLogger("gsop.front")

PAUSE_SECONDS = 1.0
"""Before the next try where none could be born, as on a machine without memory left."""

GRACE_SECONDS = 1.0
"""How long after its time a decoder's own timer may take to end it; then its front ends it."""

MOST_DEATHS = 4
"""So many decoders may die with an image in hand before it is taken for the reason."""

ENTRY = "gsop.serving.decoder:main"

_REASONS = {
    "hung": "an image took it too long",
    "crashed": "an image crashed it",
    "forbidden": "it did what no decoder does, and may have been taken over by an image",
}


class Decoders:
    """A front's decoders. A context manager, entered in the event loop that uses it."""

    def __init__(
        self, plan: Plan, count: int, meter: Meter, fork: Fork, entry: str = ENTRY
    ) -> None:
        """Prepare.

        Args:
            plan: what the decoders must know.
            count: how many there are.
            meter: counts those that die.
            fork: has them born.
            entry: what runs in them.
        """
        self._plan, self._meter, self._fork = plan, meter, fork
        self._decoders = [Decoder(plan, entry) for _ in range(count)]
        self._idle: list[Decoder] = []
        self._turns: Turns[Decoding] = Turns()
        self._reports: set[Report] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self._watch = self._loop.call_later(GRACE_SECONDS, self._end_who_does_not_end)
        for decoder in self._decoders:
            self._start(decoder)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._watch.cancel()
        for report in self._reports:
            self._loop.remove_reader(report.socket)
            report.socket.close()
        for decoder in self._decoders:
            if decoder.connection is not None:
                self._loop.remove_reader(decoder.connection)
            decoder.close()
        for decoding in self._turns.drain():
            decoding.future.cancel()

    async def decode(
        self,
        image: Picture,
        model: int,
        out: npt.NDArray[np.uint8],
        *,
        deadline: int,
        client: str = "",
        effort: Effort | None = None,
    ) -> None:
        """Decode an image into ``out``; pixels are put there as they are, and need no decoder.

        Args:
            image: the file's bytes, at most the plan's ``max_bytes``; or pixels.
            model: which of the plan's specs it is decoded for.
            out: ``(H, W, 3)`` uint8; ``(N,)``, where the plan has bundles, for one of them.
            deadline: monotonic ns after which nobody waits for it.
            client: whose turn it takes.
            effort: of all images of its request; ``None``: it is the only one.

        Raises:
            RequestError: if pixels have another size than the model's input.
            InvalidImage: if it is none, takes too long, or breaks its decoder twice.
            ImageTooLarge: if it has too many pixels, takes too much memory, or its request has
                taken too long already.
            DeadlineExceeded: if the deadline passes first.
        """
        if not isinstance(image, bytes):
            self._put(image, model, out)
            return
        effort = effort or Effort(math.inf)
        decoding = Decoding(image, model, out, self._loop.create_future(), client, effort)
        timer = self._loop.call_later((deadline - time.monotonic_ns()) / 1e9, decoding.expire)
        self._turns.add(client, decoding)
        try:
            self._work()
            await decoding.future
        finally:
            timer.cancel()
            self._turns.discard(client, decoding)  # or it would wait for nobody, with its bytes

    def _put(self, pixels: npt.NDArray[np.uint8], model: int, out: npt.NDArray[np.uint8]) -> None:
        spec = self._plan.specs[model]
        try:
            put_pixels(pixels, out, spec)
        except ValueError as error:
            raise RequestError(
                f"the version that answers wants pixels of {spec.height} x {spec.width}; name the "
                "version that yours are for"
            ) from error

    def _work(self) -> None:
        """Give what waits to whoever is free."""
        while self._idle:
            now = self._loop.time()
            is_last = len(self._idle) == 1 < len(self._decoders)
            found = self._turns.next(now, cheap=is_last)
            if found is None:
                return
            _, decoding = found
            if decoding.future.done():  # given up, or late
                continue
            if decoding.effort.seconds <= 0:
                decoding.future.set_exception(
                    ImageTooLarge(
                        "The request's images take too long to decode together; send fewer in one "
                        "request, or send them scaled down."
                    )
                )
                continue
            decoder = self._idle.pop()
            try:
                decoder.take(decoding, now)
            except OSError:
                self._replace(decoder)

    def _charge(self, decoder: Decoder, decoding: Decoding) -> None:
        """Count what an image has cost."""
        now = self._loop.time()
        decoding.effort.seconds -= now - decoder.began
        self._turns.charge(decoding.client, now - decoder.began, now)

    def _on_answer(self, decoder: Decoder) -> None:
        assert decoder.connection is not None, "only then it is read"  # noqa: S101
        try:
            answer = decoder.connection.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer:
            self._replace(decoder)
            self._work()
            return
        try:
            self._believe(decoder, answer)
        except ValueError:
            decoder.broke_rules = True
            decoder.kill()
            if decoder in self._idle:
                self._idle.remove(decoder)
            return
        self.heard = self._loop.time()
        if decoder.decoding is None and decoder not in self._idle:
            self._idle.append(decoder)
        self._work()

    def _believe(self, decoder: Decoder, message: bytes) -> None:
        """Take an answer for what it is; ValueError if it is none, or none was waited for."""
        if not decoder.is_born:
            if message != BORN:
                raise ValueError("not born")
            decoder.is_born = True
            return
        if message == BORN and decoder.owes_life:
            decoder.heard = self._loop.time()
            return
        answer, decoding = Answer.parse(message), decoder.decoding
        if decoding is None or decoder.broke_rules:
            raise ValueError("nobody asked")
        decoder.decoding = None
        self._charge(decoder, decoding)
        if answer.unforeseen:
            error, *where = answer.unforeseen
            told = {"members": {"error": error, "where": where}}
            log.error("a decoder raised an error that is not foreseen", extra=told)
        if decoding.future.done():  # given up, or late
            return
        if answer.error is not None:
            decoding.future.set_exception(answer.error)
            return
        decoding.out[...] = decoder.pixels_for(decoding)
        decoding.future.set_result(None)

    # ── deaths and births ────────────────────────────────────────────────────────────────────

    def _replace(self, decoder: Decoder) -> None:
        """A decoder is dead: answer for what it had in hand, and have another one."""
        decoding, decoder.decoding = decoder.decoding, None
        assert decoder.connection is not None, "a decoder without one is not there"  # noqa: S101
        self._loop.remove_reader(decoder.connection)
        decoder.connection.close()
        decoder.connection = None
        if decoder in self._idle:
            self._idle.remove(decoder)
        # A decoder that hangs is ended by its own timer, a little after it has got the decoding.
        hung = self._loop.time() - decoder.began >= self._plan.seconds
        if decoding is not None:
            self._charge(decoder, decoding)
            decoding.deaths += 1
            is_to_blame = decoder.has_begun or decoder.broke_rules
            if not is_to_blame and decoding.deaths < MOST_DEATHS:
                self._put_back(decoding)  # it is not what the decoder died of
                decoding = None
        self._ask_why(decoder, decoding, hung=hung)
        if decoder.is_born:
            self._start(decoder)
        else:
            self._loop.call_later(PAUSE_SECONDS, self._start, decoder)

    def _ask_why(self, decoder: Decoder, decoding: Decoding | None, *, hung: bool) -> None:
        """Have the nursery tell how it ended: what it had in hand is answered by that."""
        report, decoder.report = decoder.report, None
        assert report is not None, "whoever is dead was born"  # noqa: S101
        self._reports.add(report)
        broke_rules = decoder.broke_rules

        def read() -> None:
            report.read()
            if not report.is_over:
                return
            self._loop.remove_reader(report.socket)
            self._reports.remove(report)
            report.socket.close()
            forbidden = broke_rules or report.status == -signal.SIGSYS
            reason = "forbidden" if forbidden else "hung" if hung else "crashed"
            if decoding is not None or forbidden:
                self._meter.count(DECODERS_LOST, reason)
                log.warning("a decoder is replaced: %s", _REASONS[reason])
            if decoding is not None:
                self._answer_for(decoding, reason)
                self._work()

        self._loop.add_reader(report.socket, read)

    def _put_back(self, decoding: Decoding) -> None:
        if not decoding.future.done():
            self._turns.put_back(decoding.client, decoding)

    def _answer_for(self, decoding: Decoding, reason: str) -> None:
        decoding.tries += 1
        if decoding.future.done():
            return
        if reason == "hung":
            decoding.future.set_exception(
                InvalidImage(
                    f"The image takes more than {self._plan.seconds:g} s to decode; "
                    "send it scaled down, or save it anew as a baseline JPEG."
                )
            )
        elif reason == "crashed" and decoding.tries == 1:
            self._put_back(decoding)  # the decoder may have been killed for another reason
        else:
            decoding.future.set_exception(
                InvalidImage("The image breaks its decoder; save it anew as JPEG or as PNG.")
            )

    def _end_who_does_not_end(self) -> None:
        """Each second: a decoder may be stopped, or taken over, and its own timer with it."""
        late = self._loop.time() - self._plan.seconds - GRACE_SECONDS
        for decoder in self._decoders:
            # Again, if it broke rules: it may have done so before its pid was known.
            if decoder.broke_rules or (decoder.decoding is not None and decoder.began < late):
                decoder.kill()
            elif decoder in self._idle:
                self._look_after(decoder)
        self._watch = self._loop.call_later(GRACE_SECONDS, self._end_who_does_not_end)

    def _look_after(self, decoder: Decoder) -> None:
        """One without work may be stopped: ask it, and end it if it does not say anything."""
        now = self._loop.time()
        if not decoder.owes_life:
            if now - max(decoder.called, decoder.began) > CALL_SECONDS:
                decoder.call(now)
        elif now - decoder.called > self._plan.seconds + GRACE_SECONDS:
            decoder.kill()

    @property
    def waiting(self) -> int:
        """Images for which no decoder is free."""
        return len(self._turns)

    @property
    def silence(self) -> float:
        """Seconds since any of them said something; of those without work, each is asked."""
        return self._loop.time() - self.heard

    def _start(self, decoder: Decoder) -> None:
        """Have it born; it is idle once it says so."""
        if self._closed:
            return
        decoder.is_born = False
        try:
            connection = decoder.be_born(self._fork)
        except OSError:
            self._loop.call_later(PAUSE_SECONDS, self._start, decoder)
            return
        self._loop.add_reader(connection, self._on_answer, decoder)
