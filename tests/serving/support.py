"""Decoders that do what hostile images might make them do, and what becomes of their images."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import numpy as np

from gsop.arena.counters import Meter
from gsop.environment import CageMode
from gsop.errors import GSoPError
from gsop.processes.nursery import Nursery
from gsop.serving.decoder import Plan
from gsop.serving.decoders import Decoders
from gsop.serving.decoding import Effort
from tests.imagery import input_spec

SECONDS = 0.5
HOSTILE = "tests.hostile_decoder"
GOOD = b"\7"


class Lost:
    """Counts what a meter would."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, _family: object, reason: str) -> None:
        self.counts[reason] += 1


@asynccontextmanager
async def decoders(
    nursery: Nursery, lost: Lost, count: int = 1, *, entry: str = "main", cage: CageMode = "auto"
) -> AsyncIterator[Decoders]:
    plan = Plan(
        process="decoder",
        specs=(input_spec(4, 4, 4), input_spec(8, 6, 8)),
        max_pixels=1_000_000,
        max_bytes=100_000,
        seconds=SECONDS,
        cage=cage,
        log_level="info",
        log_format="json",
    )
    meter, where = cast("Meter", lost), f"{HOSTILE}:{entry}"
    with Decoders(plan, count, meter, nursery.fork_without_lifeline, where) as made:
        yield made


async def decode(
    made: Decoders,
    data: bytes,
    seconds: float = 60,
    model: int = 0,
    client: str = "",
    effort: Effort | None = None,
) -> int:
    out = np.zeros((4, 4, 3) if model == 0 else (8, 6, 3), np.uint8)
    deadline = time.monotonic_ns() + int(seconds * 1e9)
    await made.decode(data, model, out, deadline=deadline, client=client, effort=effort)
    assert (out == out.flat[0]).all()
    return int(out.flat[0])


async def outcome(
    made: Decoders, data: bytes, client: str = "", seconds: float = 60
) -> int | GSoPError:
    try:
        return await decode(made, data, seconds, client=client)
    except GSoPError as error:
        return error
