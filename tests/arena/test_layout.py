"""Every field has one writer, and nobody else can."""

import os
import sys
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gsop.arena.block import SUPERVISOR, Block, Role
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory

FRONTS = tuple(Role("front", number) for number in (0, 1))
ENGINES = tuple(Role("engine", number) for number in (0, 1))
SEATS = tuple(Role("engine", number) for number in range(4))
"""Engines of two generations, as the service's memory knows them."""

CASES = [
    *product(
        ["arena"],
        ["seats", "engines", "drift", "requests", "answers", "inputs", "outputs"],
        [(SUPERVISOR, *FRONTS, *ENGINES)],
    ),
    *product(
        ["memory"],
        [
            "service",
            "keys",
            "key_use",
            "key_asked",
            "key_parts",
            "fronts",
            "traffic",
            "versions",
            "counters",
            "forgotten",
            "comparisons",
            "exemplars",
        ],
        [(SUPERVISOR, *FRONTS, *SEATS)],
    ),
]


@pytest.fixture
def blocks(arena: Arena, memory: ServiceMemory) -> dict[str, Block[Any]]:
    return {"arena": arena, "memory": memory}


def owned(block: Block[Any], role: Role, region: str) -> npt.NDArray[np.int_]:
    """For each byte of a region, 1 if the role is given it to write."""
    hand = type(block).attach(block.fd, role)
    whole = hand.view(region)
    found = np.zeros(whole.nbytes, int)
    try:
        part = hand.own(region)
    except PermissionError:
        return found
    assert part.flags.writeable
    assert part.flags.c_contiguous
    start = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    found[start : start + part.nbytes] = 1
    return found


def test_the_cases_are_all_regions(blocks: dict[str, Block[Any]]) -> None:
    regions = {
        (name, region) for name, block in blocks.items() for region in block.regions(block.plan)
    }
    assert {(name, region) for name, region, _ in CASES} == regions


@pytest.mark.parametrize(("name", "region", "roles"), CASES)
def test_each_byte_has_one_writer(
    blocks: dict[str, Block[Any]], name: str, region: str, roles: tuple[Role, ...]
) -> None:
    writers = np.sum([owned(blocks[name], role, region) for role in roles], axis=0)
    assert (writers == 1).all()


@pytest.mark.parametrize(("name", "region", "roles"), CASES)
def test_a_second_writer_is_refused(
    blocks: dict[str, Block[Any]], name: str, region: str, roles: tuple[Role, ...]
) -> None:
    block = blocks[name]
    for role in roles:
        seen = type(block).attach(block.fd, role).view(region)
        with pytest.raises(ValueError, match="read-only"):
            seen[...] = 0
        if seen.dtype.names:
            with pytest.raises(ValueError, match="read-only"):
                seen[seen.dtype.names[0]] = 1


def test_what_one_writes_all_see(arena: Arena) -> None:
    front, engine = Arena.attach(arena.fd, Role("front", 1)), Arena.attach(arena.fd, Role("engine"))
    front.own("inputs")[0] = 7
    first = front.deployment.slots_of(1).start
    assert (engine.view("inputs")[first] == 7).all()
    assert (arena.view("inputs")[:first] == 0).all()


def test_a_child_reads_the_plans_from_the_memory(arena: Arena, memory: ServiceMemory) -> None:
    assert Arena.attach(arena.fd, Role("engine", 1)).deployment == arena.deployment
    assert ServiceMemory.attach(memory.fd, Role("engine", 3)).plan == memory.plan


def test_engines_of_two_generations_have_seats_of_their_own(arena: Arena) -> None:
    present = arena.deployment
    following = present.model_copy(update={"generation": 2, "turn": 1})
    seats = [each.seat(engine) for each in (present, following) for engine in (0, 1)]
    assert sorted(seats) == [0, 1, 2, 3]
    assert following.engine_address(0) != present.engine_address(0)


def test_slots_are_divided_among_the_fronts(arena: Arena) -> None:
    parts = [arena.deployment.slots_of(front) for front in range(2)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3]]


@pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")
@pytest.mark.parametrize("size", [0, 1 << 40])
def test_whoever_gets_hold_of_it_cannot_cut_it_short(arena: Arena, size: int) -> None:
    again = os.open(f"/proc/self/fd/{arena.fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.ftruncate(again, size)
    os.close(again)
