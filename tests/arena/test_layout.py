"""Every field has one writer, and nobody else can."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from gsop.arena.layout import SUPERVISOR, Arena, Role

ROLES = (SUPERVISOR, *(Role("front", n) for n in (0, 1)), *(Role("engine", n) for n in (0, 1)))
REGIONS = (
    "service",
    "seats",
    "fronts",
    "engines",
    "requests",
    "answers",
    "counters",
    "inputs",
    "outputs",
)


def owned(arena: Arena, role: Role, region: str) -> npt.NDArray[np.int_]:
    """For each byte of a region, 1 if the role is given it to write."""
    hand = Arena.attach(arena.fd, role)
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


@pytest.mark.parametrize("region", REGIONS)
def test_each_byte_has_one_writer(arena: Arena, region: str) -> None:
    writers = np.sum([owned(arena, role, region) for role in ROLES], axis=0)
    assert (writers == 1).all()


@pytest.mark.parametrize(("role", "region"), list(product(ROLES, REGIONS)), ids=str)
def test_a_second_writer_is_refused(arena: Arena, role: Role, region: str) -> None:
    hand = Arena.attach(arena.fd, role)
    seen = hand.view(region)
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


def test_a_child_reads_the_deployment_from_the_arena(arena: Arena) -> None:
    assert Arena.attach(arena.fd, Role("engine", 1)).deployment == arena.deployment


def test_slots_are_divided_among_the_fronts(arena: Arena) -> None:
    parts = [arena.deployment.slots_of(front) for front in range(2)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3]]
