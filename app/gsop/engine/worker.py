"""The engine process: owns a device, turns the slots that wait into batches.

One thread, one loop, no polling::

    sockets ──▶ queue ──▶ batch ──▶ device ──▶ slots, messages ──▶ records, statistics
              (drained when the device is free)

A batch is formed at the last moment, from whatever waits when the device can take it: no timer
holds a request back, and a busy device makes the batches grow by itself. What has expired, was
given up, or would expire before its batch's end is skipped here, so the device never sees it. On
CUDA two batches are in flight: the bookkeeping of one happens while the device computes the next.

An exception out of a forward pass ends the process: after a CUDA error nothing that the device says
can be trusted. The supervisor starts a successor and the fronts send again what they wait for.
"""

import contextlib
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from gsop.arena.counters import BATCH_SIZE, SKIPPED, Meter
from gsop.arena.layout import Arena, Outcome
from gsop.arena.messages import (
    Decoder,
    Kind,
    Message,
    encode,
    encode_payload,
    is_own,
    pack_reply,
)
from gsop.backends.base import Pending, Predictor
from gsop.engine.cost import BatchCost
from gsop.engine.pace import Pace
from gsop.gates.memory import GateMemory
from gsop.gates.queries import answer

log = logging.getLogger("gsop.engine")

IDLE_SECONDS = 1.0
"""An idle engine shows that it lives this often."""

_OK, _NON_FINITE = Outcome.OK.value, Outcome.NON_FINITE.value


class Peer:
    """A front's connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.decoder = Decoder()
        self.unsent = b""

    def flush(self) -> bool:
        """Send what can be sent; true when nothing is left."""
        if self.unsent:
            with contextlib.suppress(BlockingIOError):
                self.unsent = self.unsent[self.connection.send(self.unsent) :]
        return not self.unsent

    def receive(self) -> Iterable[Message]:
        """The messages that have arrived.

        Raises:
            ConnectionError: when the front is gone.
        """
        try:
            data = self.connection.recv(1 << 16)
        except BlockingIOError:
            return ()
        if not data:
            raise ConnectionResetError
        return self.decoder.feed(data)


class Job(NamedTuple):
    """A slot that waits, and who waits for it."""

    peer: Peer
    slot: int
    ticket: int
    alone: bool


class Batch(NamedTuple):
    """Jobs on the device."""

    jobs: list[Job]
    model: int
    pending: Pending
    started: int


class Worker:
    """The loop of one engine."""

    def __init__(
        self,
        arena: Arena,
        engine: int,
        predictors: Sequence[Predictor],
        listener: socket.socket,
        lifeline: socket.socket | int,
    ) -> None:
        self._fields = arena.fields
        self._arena = arena
        self._status = arena.engines[engine : engine + 1]
        self._predictors = predictors
        self._depth = min(p.depth for p in predictors)
        self._meter = Meter.of_engine(arena, engine)
        self._queue: deque[Job] = deque()
        self._flying: deque[Batch] = deque()
        self._lifeline = lifeline
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._paces = [Pace(p.max_batch) for p in predictors]
        self._costs = [BatchCost() for _ in predictors]
        self._last_finished = 0
        # Who just misses the batches in flight waits for them, and then for its own.
        self._target_seconds = arena.deployment.settings.target_latency_ms / 1000
        self._batch_seconds = self._target_seconds / (self._depth + 1)
        records = arena.deployment.settings.attention_records
        self.memories = [
            GateMemory(p.manifest.config.num_classes, p.manifest.gate_size, records)
            for p in predictors
        ]

    def run(self) -> None:
        """Serve until the lifeline ends."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._lifeline, selectors.EVENT_READ)
        with self._selector:
            while self._receive():
                while self._has_room() and (batch := self._next_batch()):
                    self._launch(*batch)
                if self._flying:
                    self._finish(self._flying.popleft())

    # ── what comes in ────────────────────────────────────────────────────────────────────────

    def _receive(self) -> bool:
        """Take in all that has arrived, waiting only if there is nothing else to do."""
        busy = self._queue or self._flying
        for key, mask in self._selector.select(0 if busy else IDLE_SECONDS):
            if key.fileobj is self._lifeline:
                return False
            if key.fileobj is self._listener:
                self._accept()
                continue
            try:
                self._attend(key.data, mask)
            except ConnectionError:
                self._forget(key.data)
        self._status["beat"] = time.monotonic_ns()
        return True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if not is_own(connection):
            log.error("refused a connection from a process of another user")
            connection.close()
            return
        self._selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def _attend(self, peer: Peer, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and peer.flush():
            self._selector.modify(peer.connection, selectors.EVENT_READ, peer)
        if mask & selectors.EVENT_READ:
            for message in peer.receive():
                self._take(peer, message)

    def _take(self, peer: Peer, message: Message) -> None:
        if message.kind == Kind.QUERY:
            meta, values = answer(self.memories, message.payload)
            self._send(peer, encode_payload(Kind.REPLY, message.ticket, pack_reply(meta, values)))
        else:
            alone = message.kind == Kind.INFER_ALONE
            self._queue.append(Job(peer, message.number, message.ticket, alone))

    def _forget(self, peer: Peer) -> None:
        """A front is gone: nobody waits for its slots any more."""
        if peer.connection.fileno() < 0:
            return
        self._selector.unregister(peer.connection)
        peer.connection.close()
        self._queue = deque(job for job in self._queue if job.peer is not peer)

    def _send(self, peer: Peer, data: bytes) -> None:
        if peer.connection.fileno() < 0:
            return
        peer.unsent += data
        try:
            if not peer.flush():
                events = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(peer.connection, events, peer)
        except ConnectionError:
            self._forget(peer)

    # ── batches ──────────────────────────────────────────────────────────────────────────────

    def _has_room(self) -> bool:
        if any(batch.jobs[0].alone for batch in self._flying):
            return False  # or an engine that dies now would be laid to both
        return len(self._flying) < self._depth

    def _next_batch(self) -> tuple[int, list[Job]] | None:
        """Take from the queue what goes into the next batch: one model's slots, oldest first.

        Returns:
            The model's index and its jobs, at least one.
        """
        now = time.monotonic_ns()
        jobs: list[Job] = []
        other_models: list[Job] = []
        model = limit = 0
        while self._queue and (not jobs or len(jobs) < limit):
            job = self._queue.popleft()
            if not self._is_wanted(job, now):
                continue
            its_model = self._fields["model"].item(job.slot)
            if not jobs:
                if job.alone and self._flying:
                    self._queue.appendleft(job)
                    break
                model = its_model
                waited = (now - self._fields["submitted"].item(job.slot)) / 1e9
                limit = 1 if job.alone else self._limit(model, waited)
            elif its_model != model or job.alone:
                other_models.append(job)
                continue
            jobs.append(job)
        self._queue.extendleft(reversed(other_models))
        return (model, jobs) if jobs else None

    def _limit(self, model: int, waited: float) -> int:
        """Most images of the next batch: what the device holds, and what the time is enough for.

        When it is not enough even so, because the oldest has ``waited`` for too many seconds, more
        wait than small batches can serve: what helps all of them is to catch up, in large ones.
        """
        most, cost = self._predictors[model].max_batch, self._costs[model]
        if not self._batch_seconds:
            return most
        limit = cost.largest(self._batch_seconds, most)
        return limit if waited + cost.expect(limit) <= self._target_seconds else most

    def _is_wanted(self, job: Job, now: int) -> bool:
        if self._fields["ticket"].item(job.slot) != job.ticket:
            self._meter.count(SKIPPED, "cancelled")
            return False
        deadline: int = self._fields["deadline"].item(job.slot)
        if deadline <= now or self._would_be_late(job, deadline - now):
            self._meter.count(SKIPPED, "expired" if deadline <= now else "late")
            self._fields["outcome"][job.slot] = Outcome.EXPIRED
            self._conclude([job])
            return False
        return True

    def _would_be_late(self, job: Job, left_ns: int) -> bool:
        """Whether the device would compute an answer that nobody waits for any more.

        Under overload the oldest that waits is always about to expire: to begin it would waste the
        device, and with short deadlines no request would ever be answered. The last in the queue is
        tried whatever is expected, so an expectation that has become wrong is found out.
        """
        if not self._queue:
            return False
        model: int = self._fields["model"].item(job.slot)
        size = 1 if job.alone else min(self._predictors[model].max_batch, 1 + len(self._queue))
        return left_ns < self._paces[model].expect(size)

    def _launch(self, model: int, jobs: list[Job]) -> None:
        slots, started = [job.slot for job in jobs], time.monotonic_ns()
        self._fields["running"][slots] = [job.ticket for job in jobs]
        if not self._flying:
            self._status["busy_since"] = started
        images = [self._arena.image(slot, model) for slot in slots]
        try:
            pending = self._predictors[model].submit(images)
        except torch.OutOfMemoryError:
            self._shrink(model, jobs)
        else:
            self._flying.append(Batch(jobs, model, pending, started))

    def _shrink(self, model: int, jobs: list[Job]) -> None:
        """The device has no room for a batch of these: from now on at most half as many go in.

        They wait again, as the first. An image that does not fit alone is given up. The limit stays
        lowered: what else the device's memory is used for will most likely be there again.
        """
        self._status["busy_since"] = self._flying[0].started if self._flying else 0
        predictor = self._predictors[model]
        self._fields["running"][[job.slot for job in jobs]] = 0  # the next death is not theirs
        if predictor.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(jobs) == 1:
            log.error("the device has no memory for one image")
            self._fields["outcome"][jobs[0].slot] = Outcome.OUT_OF_MEMORY
            self._conclude(jobs)
            return
        predictor.max_batch = len(jobs) // 2
        self._status["batch_limit"] = min(p.max_batch for p in self._predictors)
        log.warning(
            "the device has no memory for %d images: batches are of %d at most from now on",
            len(jobs),
            predictor.max_batch,
        )
        self._queue.extendleft(reversed(jobs))

    def _finish(self, batch: Batch) -> None:
        """Wait for the device and hand out a batch's answers."""
        values = batch.pending.result()
        jobs, fields = batch.jobs, self._fields
        slots = np.array([job.slot for job in jobs])
        if len(values) != len(jobs):
            raise RuntimeError(f"{len(jobs)} images went in, {len(values)} answers came out")
        finite = np.isfinite(values).all(axis=1)
        self._arena.outputs[slots, : values.shape[1]] = values
        fields["outcome"][slots] = np.where(finite, _OK, _NON_FINITE)
        fields["started"][slots] = batch.started
        finished = time.monotonic_ns()
        fields["finished"][slots] = finished
        self._paces[batch.model].learn(len(jobs), finished - batch.started)
        # The device began it when the batch before was done.
        cost = self._costs[batch.model]
        cost.learn(len(jobs), (finished - max(batch.started, self._last_finished)) / 1e9)
        self._last_finished = finished
        self._status["fixed_seconds"], self._status["image_seconds"] = cost.fixed, cost.image
        fields["batch"][slots] = len(jobs)
        ids = [bytes(id_).decode() for id_ in fields["id"][slots]]
        top_k = fields["top_k"][slots].tolist()
        owners = fields["owner"][slots].tolist()
        # Read after the ids: a slot that is still held was held all along, and the id is its own.
        held = fields["ticket"][slots] == np.array([job.ticket for job in jobs], np.uint64)
        self._conclude(jobs)
        self._status["busy_since"] = self._flying[0].started if self._flying else 0
        self._meter.observe(BATCH_SIZE, len(jobs))
        kept = np.flatnonzero(finite & held)
        if len(kept):
            self.memories[batch.model].add(
                [ids[i] for i in kept],
                [top_k[i] for i in kept],
                values[kept],
                [owners[i] for i in kept],
            )

    def _conclude(self, jobs: Sequence[Job]) -> None:
        """Mark slots as finished, then tell their fronts."""
        messages: dict[Peer, list[bytes]] = {}
        for job in jobs:
            self._fields["done"][job.slot] = job.ticket
            messages.setdefault(job.peer, []).append(encode(Kind.DONE, job.slot, job.ticket))
        for peer, parts in messages.items():
            self._send(peer, b"".join(parts))
