"""Two versions on the same image: copies of what one has answered, for the other, compared.

A copy is made only while half of the slots are free, and is sent when the answer is out. Nobody
waits for what becomes of it; it is no caller's, and the engine does not remember it.
"""

import asyncio
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsop.arena.comparisons import ComparisonBook, Pair
from gsop.arena.families import PREDICTIONS, SHADOWS_SKIPPED
from gsop.arena.slot import Pixels
from gsop.errors import GSoPError
from gsop.serving.choice import Chosen
from gsop.serving.decoding import Picture
from gsop.serving.engines import Inference, LoadedModel, count_answer
from gsop.serving.generation import Generation, Generations

MOST = 16
"""Copies of a front that are under way at a time."""

SECONDS = 10
"""How long a copy may take."""

Values = npt.NDArray[np.float32]


class Copy(NamedTuple):
    """An image that a version has answered, for another one.

    Attributes:
        chosen: the version that has answered.
        other: the one to compare it with.
        image: the file, or pixels.
        pixels: as the first has seen them; ``None`` if the other takes them otherwise.
        values: the first one's answer.
    """

    chosen: Chosen
    other: LoadedModel
    image: Picture
    pixels: Pixels | None
    values: Values


class Shadows:
    """A front's copies."""

    def __init__(self, generations: Generations) -> None:
        self._book = ComparisonBook(generations.memory)
        self._meter = generations.meter
        self._tasks: set[asyncio.Task[None]] = set()

    def other(self, chosen: Chosen) -> LoadedModel | None:
        """The version that what ``chosen`` answers is compared with, if there is one now."""
        if chosen.shares is None:
            return None
        traffic, name = chosen.shares.traffic, chosen.model.manifest.name
        if chosen.role == "canary":
            version: str | None = traffic.stable
        elif chosen.role == "stable":
            version = traffic.shadow
        else:
            version = None
        return None if version is None else chosen.generation.engines.find(name, version)

    def copy(self, chosen: Chosen, image: Picture, pixels: Pixels, values: Values) -> None:
        """Have an image answered by the other version, too, if there is one and room for it."""
        other = self.other(chosen)
        if other is None:
            return
        engines = chosen.generation.engines
        own, its = chosen.model.manifest.input, other.manifest.input
        same = own == its
        # Pixels are of one size.
        fits = isinstance(image, bytes) or (own.height, own.width) == (its.height, its.width)
        if not fits or len(self._tasks) >= MOST or 2 * engines.held >= engines.capacity:
            self._meter.count(SHADOWS_SKIPPED, other.place)
            return
        copy = Copy(chosen, other, image, pixels.copy() if same else None, values)
        task = asyncio.get_running_loop().create_task(self._answer(copy))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, copy: Copy) -> None:
        await asyncio.sleep(0.001)  # the answer itself goes out first
        place, result = copy.other.place, "cancelled"
        try:
            inference = await _infer(copy.chosen.generation, copy)
            result = "ok"
        except GSoPError as error:  # no room, no time, or a fault of that version
            result = error.code
            return
        finally:
            self._meter.count(PREDICTIONS, place, "shadow", result)
        count_answer(self._meter, inference, place, "shadow")
        first, second = (copy.chosen.model, copy.values), (copy.other, inference.values)
        if copy.chosen.role == "canary":
            first, second = second, first
        assert copy.chosen.shares is not None, "or there would be no other"  # noqa: S101
        self._book.add(int(second[0].place), copy.chosen.shares.run, compare(*first, *second))


async def _infer(generation: Generation, copy: Copy) -> Inference:
    deadline = time.monotonic_ns() + SECONDS * 10**9
    with generation.engines.acquire(copy.other) as (slot,):
        if copy.pixels is not None:
            slot.pixels[...] = copy.pixels
        else:
            await generation.decoders.decode(copy.image, slot.model, slot.pixels, deadline=deadline)
        return await generation.engines.infer(slot, deadline=deadline, top_k=0, kept=False)


def compare(stable: LoadedModel, usual: Values, other: LoadedModel, values: Values) -> Pair:
    """How far two versions' answers are from each other.

    Classes are compared by their labels, as two versions may number them otherwise.

    Args:
        stable: the stable version.
        usual: its answer.
        other: the version that is compared with it.
        values: that one's answer.
    """
    one, two = stable.manifest.answer, other.manifest.answer
    best, its_best = int(one.winners(usual)), int(two.winners(values))
    label = one.labels[best]
    its_probability = 0.0
    if label in two.labels:
        its_probability = float(two.probabilities(values)[two.labels.index(label)])
    moved = abs(float(one.probabilities(usual)[best]) - its_probability)
    distance = None
    if one.gates == two.gates and one.gates:
        distance = float(np.abs(one.gate_values(usual) - two.gate_values(values)).mean())
    return Pair(label == two.labels[its_best], moved, distance)
