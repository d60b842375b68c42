"""The ticket protocol: how a front asks, how an engine answers, and how each can be sure.

A slot is one image on its way. Its front writes what it asks and a *ticket*, a number that no other
request ever had; an engine writes into its own row what it answers. Two numbers there tie the sides
together: ``running``, the last ticket with which a batch began, and ``done``, the last one that was
finished. So:

- An answer counts only where ``done == ticket``: the late result of a request that was given up can
  never be taken for that of the slot's next one, on whichever engine it is.
- An engine that died with ``running == ticket`` died on that image, maybe of it.
- A request that is sent again gets a new ticket, so what an engine wrote about its first try says
  nothing about the second.

What is written before ``done`` is seen by whoever sees ``done``: fronts look only after a message
of the engine's or its end, and both go through the kernel.
"""

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.arena.block import fields_of
from gsop.arena.layout import Arena
from gsop.arena.states import Outcome

Pixels = npt.NDArray[np.uint8]

_OK, _NON_FINITE = Outcome.OK.value, Outcome.NON_FINITE.value


class Slot(NamedTuple):
    """A slot that a front holds for one image.

    Attributes:
        number: its place in the arena.
        model: index of the model that it is for.
        pixels: ``(H, W, 3)``, or a bundle, to be written before the slot is submitted.
    """

    number: int
    model: int
    pixels: Pixels


class Finished(NamedTuple):
    """What an engine wrote about a slot.

    Attributes:
        outcome: how it ended.
        values: the answer; worth something only if the outcome is OK.
        started: monotonic ns at which its batch began.
        finished: monotonic ns at which its batch ended.
        batch: images in its batch.
    """

    outcome: int
    values: npt.NDArray[np.float32]
    started: int
    finished: int
    batch: int


class FrontSlots:
    """The slots that one front owns. Whoever makes it is their only writer from now on.

    Attributes:
        capacity: how many there are.
    """

    def __init__(self, arena: Arena) -> None:
        owned = arena.deployment.slots_of(arena.role.number)
        self._first = owned.start
        self._shapes = _shapes(arena)
        self._widths = [manifest.answer.width for manifest in arena.deployment.manifests]
        self._request = fields_of(arena.own("requests"))
        self._inputs = arena.own("inputs")
        self._answer = fields_of(arena.view("answers"))
        self._outputs = arena.view("outputs")
        self._free = deque(owned)
        self.capacity = len(owned)
        self._request["ticket"][:] = 0  # what a predecessor of this front held
        self._ticket = time.monotonic_ns()  # above all tickets of a predecessor

    @property
    def free(self) -> int:
        """Slots that nothing holds."""
        return len(self._free)

    def hold(self, model: int, caller: int) -> Slot:
        """Take a free slot.

        Args:
            model: index of the model that it is for.
            caller: who may see its record later; 0 is nobody in particular.

        Raises:
            IndexError: if none is free.
        """
        number = self._free.popleft()
        at = number - self._first
        self._request["caller"][at] = caller
        self._request["model"][at] = model
        self.renew(number)
        shape = self._shapes[model]
        pixels = self._inputs[at, : math.prod(shape)].reshape(shape)
        return Slot(number, model, pixels)

    def submit(
        self, number: int, *, id: str, top_k: int, deadline: int, submitted: int, kept: bool = True
    ) -> int:
        """Write what is asked, before an engine is told; the ticket.

        Args:
            number: of a slot with its pixels written.
            id: the prediction's public id, at most 24 characters.
            top_k: remembered with the record.
            kept: whether the engine is to remember the answer.
            deadline: monotonic ns after which the answer is worthless.
            submitted: monotonic ns.
        """
        request, at = self._request, number - self._first
        request["id"][at] = id.encode()
        request["top_k"][at] = top_k
        request["kept"][at] = kept
        request["deadline"][at] = deadline
        request["submitted"][at] = submitted
        ticket: int = request["ticket"].item(at)
        return ticket

    def renew(self, number: int) -> int:
        """A new ticket for the same request: nothing that was written about the last one counts."""
        self._ticket += 1
        self._request["ticket"][number - self._first] = self._ticket
        return self._ticket

    def release(self, slot: Slot) -> None:
        """Give a slot back; an engine that has not begun it skips it."""
        self._request["ticket"][slot.number - self._first] = 0
        self._free.append(slot.number)

    def has_begun(self, number: int, ticket: int, engine: int) -> bool:
        """Whether that engine has begun a batch with it."""
        return bool(self._answer["running"][engine, number] == ticket)

    def is_done(self, number: int, ticket: int, engine: int) -> bool:
        """Whether that engine has finished it."""
        return bool(self._answer["done"][engine, number] == ticket)

    def read(self, slot: Slot, engine: int) -> Finished:
        """What that engine, which is done with it, has written; a copy."""
        answer, at = self._answer, (engine, slot.number)
        return Finished(
            answer["outcome"].item(at),
            self._outputs[engine, slot.number, : self._widths[slot.model]].copy(),
            answer["started"].item(at),
            answer["finished"].item(at),
            answer["batch"].item(at),
        )


class Request(NamedTuple):
    """What a front asks of an engine.

    Attributes:
        model: index into the deployment's manifests.
        deadline: monotonic ns.
        submitted: monotonic ns.
    """

    model: int
    deadline: int
    submitted: int


class Remembered(NamedTuple):
    """What a record needs beside an answer, for N slots.

    Attributes:
        ids: the predictions' public ids.
        top_k: how many predictions each was asked for.
        callers: who may see each.
        held: whether each slot is still that request's, and to be remembered; of others the rest is
            void.
    """

    ids: list[str]
    top_k: list[int]
    callers: list[int]
    held: npt.NDArray[np.bool_]


class EngineSlots:
    """All slots, as one engine sees them."""

    def __init__(self, arena: Arena) -> None:
        self._shapes = _shapes(arena)
        self._request = fields_of(arena.view("requests"))
        self._inputs = arena.view("inputs")
        self._answer = fields_of(arena.own("answers"))
        self._outputs = arena.own("outputs")

    def is_held(self, number: int, ticket: int) -> bool:
        """Whether the request of that ticket still waits."""
        return bool(self._request["ticket"].item(number) == ticket)

    def request(self, number: int) -> Request:
        """What is asked of the slot; to be believed if it :meth:`is_held` afterwards."""
        request = self._request
        return Request(
            request["model"].item(number),
            request["deadline"].item(number),
            request["submitted"].item(number),
        )

    def pixels(self, number: int, model: int) -> Pixels:
        """The image as the model of that index wants it: ``(H, W, 3)``, or its bundle."""
        shape = self._shapes[model]
        return self._inputs[number, : math.prod(shape)].reshape(shape)

    def begin(self, numbers: Sequence[int], tickets: Sequence[int]) -> None:
        """A batch of these begins: if this process dies now, it may be for one of them."""
        self._answer["running"][numbers] = tickets

    def withdraw(self, numbers: Sequence[int]) -> None:
        """The batch of these was not begun after all: the next death is not theirs."""
        self._answer["running"][numbers] = 0

    def answer(
        self,
        numbers: Sequence[int],
        values: npt.NDArray[np.float32],
        *,
        started: int,
        finished: int,
    ) -> npt.NDArray[np.bool_]:
        """Write the answers of a batch, which are to be concluded afterwards.

        Args:
            numbers: of N slots.
            values: ``(N, width)``.
            started: monotonic ns.
            finished: monotonic ns.

        Returns:
            Which of them are finite.
        """
        answer, at = self._answer, np.array(numbers)
        finite = np.isfinite(values).all(axis=1)
        self._outputs[at, : values.shape[1]] = values
        answer["outcome"][at] = np.where(finite, _OK, _NON_FINITE)
        answer["started"][at] = started
        answer["finished"][at] = finished
        answer["batch"][at] = len(numbers)
        return np.asarray(finite)

    def answered(self, numbers: Sequence[int], width: int) -> npt.NDArray[np.float32]:
        """The answers ``(N, width)`` that :meth:`answer` wrote last of these; a copy."""
        return np.asarray(self._outputs[np.array(numbers), :width])

    def refuse(self, number: int, outcome: Outcome) -> None:
        """Write that there is no answer, and why; to be concluded afterwards."""
        self._answer["outcome"][number] = outcome

    def remembered(self, numbers: Sequence[int], tickets: Sequence[int]) -> Remembered:
        """What records need; read before the slots are concluded."""
        request, at = self._request, np.array(numbers)
        ids = [bytes(id_).decode() for id_ in request["id"][at]]
        top_k, callers = request["top_k"][at].tolist(), request["caller"][at].tolist()
        # Last: a slot that is still held was held all along, and the rest is its own.
        held = request["kept"][at] & (request["ticket"][at] == np.array(tickets, np.uint64))
        return Remembered(ids, top_k, callers, np.asarray(held))

    def conclude(self, number: int, ticket: int) -> None:
        """Mark it as finished, before its front is told."""
        self._answer["done"][number] = ticket


class Autopsy:
    """What engines may have died of, as far as the slots tell; to be asked once for each death."""

    def __init__(self, arena: Arena) -> None:
        self._model = arena.view("requests")["model"]
        self._answer = fields_of(arena.view("answers"))
        self._told = np.zeros_like(self._answer["running"])

    def models(self, engine: int) -> set[int]:
        """The models of the batches that the engine had begun and not finished."""
        running = self._answer["running"][engine].copy()
        unfinished = (running != self._answer["done"][engine]) & (running != self._told[engine])
        self._told[engine] = running
        return set(self._model[unfinished & (running != 0)].tolist())


def _shapes(arena: Arena) -> list[tuple[int, ...]]:
    """Of each model's input images."""
    deployment = arena.deployment
    return [deployment.input_shape(model) for model in range(len(deployment.manifests))]
