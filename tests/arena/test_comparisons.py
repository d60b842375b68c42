"""What fronts find out about two versions, each in its own row."""

from gsop.arena.block import Role
from gsop.arena.comparisons import Comparison, ComparisonBook, Pair, comparison
from gsop.arena.service import ServiceMemory


def book(memory: ServiceMemory, front: int) -> ComparisonBook:
    return ComparisonBook(ServiceMemory.attach(memory.fd, Role("front", front)))


def test_fronts_add_up(memory: ServiceMemory) -> None:
    book(memory, 0).add(2, 1, Pair(agreed=True, moved=0.5, distance=None))
    book(memory, 1).add(2, 1, Pair(agreed=False, moved=0.25, distance=2.0))
    assert comparison(memory, 2, 1) == Comparison(2, 1, 0.75, 0.3125, 1, 2.0, 4.0)
    assert comparison(memory, 3, 1) == Comparison()


def test_another_run_begins_anew(memory: ServiceMemory) -> None:
    pair = Pair(agreed=True, moved=0.5, distance=None)
    for front in (0, 1):
        book(memory, front).add(2, 1, pair)
    book(memory, 0).add(2, 2, pair)
    assert comparison(memory, 2, 2).samples == 1
    assert comparison(memory, 2, 1).samples == 1, "the other front has not come to it yet"
