"""The loop of one engine: turns the slots that wait into batches, and batches into answers.

One thread, no polling::

    inbox ──▶ scheduler ──▶ backend ──▶ slots, messages ──▶ records, statistics
          (asked when the device is free)

Where the device computes by itself and can have several batches, the loop does not wait for it: a
bell tells when it is done, and what comes meanwhile is launched at once. The books of a batch, its
records and statistics, are kept when the next one is under way; who asks for them finds them.

An exception out of the backend ends the process: after an error of a device nothing that it says
can be trusted. The supervisor starts a successor, and the fronts send again what they wait for.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from gsop.arena.board import EngineBoard
from gsop.arena.counters import Meter
from gsop.arena.families import BATCH_SIZE, SKIPPED
from gsop.arena.layout import Arena
from gsop.arena.messages import Kind, encode, encode_payload, pack_reply
from gsop.arena.slot import EngineSlots, Remembered
from gsop.arena.states import Outcome
from gsop.backends.base import Backend, OutOfMemory
from gsop.engine.bell import Bell
from gsop.engine.inbox import Handed, Inbox, Peer, Received
from gsop.engine.scheduler import Batch, Job, Scheduler
from gsop.engine.watching import Memories
from gsop.gates import handover
from gsop.gates.memory import GateMemory
from gsop.gates.queries import answer
from gsop.gates.reference import Reference

log = logging.getLogger("gsop.engine")

IDLE_SECONDS = 1.0
"""An idle engine shows that it lives this often."""


class _Entry(NamedTuple):
    """What the books are kept of: a batch, its requests, and which of them are remembered."""

    batch: Batch[Peer]
    asked: Remembered
    kept: list[int]


class Worker:
    """What one engine does from its readiness to its end."""

    def __init__(
        self,
        arena: Arena,
        board: EngineBoard,
        backends: Sequence[Backend[Any]],
        inbox: Inbox,
        meter: Meter,
        references: Sequence[Reference | None] = (),
    ) -> None:
        settings = arena.deployment.settings
        self._board = board
        self._slots = EngineSlots(arena)
        self._meter = meter
        self._backends = backends
        self._inbox = inbox
        self._scheduler = Scheduler[Peer](
            [backend.max_batch for backend in backends],
            depth=min(backend.depth for backend in backends),
            target_seconds=settings.target_latency_ms / 1000,
        )
        self._pending: dict[Batch[Peer], Any] = {}
        launches_ahead = settings.cuda.launch == "ahead" and all(b.depth > 1 for b in backends)
        self._bell = Bell() if launches_ahead else None
        self._rung = 0
        self._open: list[_Entry] = []
        self._memories = Memories(
            arena, board.incarnation, references, [b.tally() for b in backends], meter
        )

    @property
    def memories(self) -> list[GateMemory]:
        """What it remembers of each model's answers."""
        return self._memories.all

    def run(self) -> None:
        """Serve until the lifeline ends."""
        if self._bell is not None:
            self._inbox.watch(self._bell)
        try:
            while (received := self._inbox.receive(self._patience)) is not None:
                for one in received:
                    if isinstance(one, Handed):
                        self._take_over(one)
                    else:
                        self.take(one)
                self._board.show_life()
                self.work()
                if not received and self._scheduler.is_idle:
                    self._memories.catch_up()
        finally:
            if self._bell is not None:
                self._bell.close()

    @property
    def _patience(self) -> float:
        if self._bell is None:
            return IDLE_SECONDS if self._scheduler.is_idle else 0.0
        # Whatever is launched rings, and what waits is launched when that has rung.
        return 0.0 if self._open or self._rung else IDLE_SECONDS

    def work(self) -> None:
        """Give the device what it can take, and hand out what it is done with first."""
        while self._launch_next():
            pass
        self._keep_books()
        if self._bell is not None:
            self._rung += self._bell.rings()
        oldest = self._scheduler.oldest
        if oldest is not None and (self._bell is None or self._rung):
            self._finish(oldest)

    def take(self, received: Received) -> None:
        """Answer a question, or have a slot wait for the device."""
        peer, message = received
        if message.kind == Kind.QUERY:
            self._keep_books()  # who asks finds all that was answered before
            meta, values = answer(self.memories, message.payload)
            reply = encode_payload(Kind.REPLY, message.ticket, pack_reply(meta, values))
            self._inbox.send(peer, reply)
            return
        if message.kind == Kind.HANDOVER:
            self._keep_books()
            remembered = handover.write(self._by_version)
            self._inbox.send(peer, encode_payload(Kind.REPLY, message.ticket, remembered))
            return
        asked = self._slots.request(message.number)
        self._scheduler.add(
            Job(
                slot=message.number,
                ticket=message.ticket,
                model=asked.model,
                submitted=asked.submitted,
                deadline=asked.deadline,
                alone=message.kind == Kind.INFER_ALONE,
                peer=peer,
            )
        )

    @property
    def _by_version(self) -> dict[str, GateMemory]:
        manifests = [backend.manifest for backend in self._backends]
        versions = [f"{m.name}/{m.version}/{m.sha256}" for m in manifests]
        return dict(zip(versions, self.memories, strict=True))

    def _take_over(self, handed: Handed) -> None:
        """The supervisor hands what the engine before the last change of versions remembered."""
        with os.fdopen(handed.descriptor, "rb") as file:
            file.seek(0)
            handover.take_over(self._by_version, file.read())
        self._memories.tell()

    def _is_wanted(self, job: Job[Peer]) -> bool:
        return not job.peer.is_gone and self._slots.is_held(job.slot, job.ticket)

    def _launch_next(self) -> bool:
        """Give the device its next batch; false if it can take none, or none waits."""
        batch = self._scheduler.next(time.monotonic_ns(), self._is_wanted)
        for job, reason in self._scheduler.take_dropped():
            self._meter.count(SKIPPED, reason)
            if reason != "cancelled":
                self._refuse(job, Outcome.EXPIRED)
        if batch is None:
            return False
        numbers = [job.slot for job in batch.jobs]
        self._slots.begin(numbers, [job.ticket for job in batch.jobs])
        self._show_business()
        images = [self._slots.pixels(number, batch.model) for number in numbers]
        try:
            self._pending[batch] = self._backends[batch.model].submit(images)
        except OutOfMemory:
            fits = False
        else:
            fits = True
        if not fits:
            self._did_not_fit(batch)
        elif self._bell is not None:
            backend, pending = self._backends[batch.model], self._pending[batch]
            self._bell.ring_after(lambda: backend.wait(pending))
        return True

    def _did_not_fit(self, batch: Batch[Peer]) -> None:
        self._slots.withdraw([job.slot for job in batch.jobs])
        hopeless = self._scheduler.did_not_fit(batch)
        self._show_business()
        backend, limit = self._backends[batch.model], self._scheduler.limits[batch.model]
        backend.shrink(limit)
        if hopeless is not None:
            log.error("the device has no memory for one image")
            self._refuse(hopeless, Outcome.OUT_OF_MEMORY)
            return
        self._board.limit_batches(min(self._scheduler.limits))
        log.warning(
            "the device has no memory for %d images: batches are of %d at most from now on",
            len(batch.jobs),
            limit,
        )

    def _finish(self, batch: Batch[Peer]) -> None:
        """Wait for the device, hand out a batch's answers, and only then keep the books."""
        self._rung = max(0, self._rung - 1)
        jobs = batch.jobs
        values = self._backends[batch.model].result(self._pending.pop(batch))
        if len(values) != len(jobs):
            raise RuntimeError(f"{len(jobs)} images went in, {len(values)} answers came out")
        finished = time.monotonic_ns()
        numbers, tickets = [job.slot for job in jobs], [job.ticket for job in jobs]
        finite = self._slots.answer(numbers, values, started=batch.started, finished=finished)
        asked = self._slots.remembered(numbers, tickets)
        self._conclude(jobs)
        self._scheduler.finished(batch, finished)
        self._show_business()
        kept = (finite & asked.held).nonzero()[0].tolist()
        self._open.append(_Entry(batch, asked, kept))
        if self._bell is None:
            self._keep_books()

    def _keep_books(self) -> None:
        """Remember what was answered last: nothing is finished since, so it lies in the slots."""
        entries, self._open = self._open, []
        for batch, asked, kept in entries:
            times, memory = self._scheduler.times[batch.model], self.memories[batch.model]
            self._board.expect(fixed_seconds=times.fixed, image_seconds=times.image)
            self._meter.observe(BATCH_SIZE, len(batch.jobs))
            if kept:
                memory.add(
                    [asked.ids[i] for i in kept],
                    [asked.top_k[i] for i in kept],
                    self._slots.answered([batch.jobs[i].slot for i in kept], memory.layout.width),
                    [asked.callers[i] for i in kept],
                )
        if entries:
            self._memories.tell()

    def _refuse(self, job: Job[Peer], outcome: Outcome) -> None:
        self._slots.refuse(job.slot, outcome)
        self._conclude([job])

    def _conclude(self, jobs: Sequence[Job[Peer]]) -> None:
        """Mark slots as finished, then tell their fronts."""
        messages: dict[Peer, list[bytes]] = {}
        for job in jobs:
            self._slots.conclude(job.slot, job.ticket)
            messages.setdefault(job.peer, []).append(encode(Kind.DONE, job.slot, job.ticket))
        for peer, parts in messages.items():
            self._inbox.send(peer, b"".join(parts))

    def _show_business(self) -> None:
        oldest = self._scheduler.oldest
        self._board.be_busy(oldest.started if oldest is not None else 0)
