import pytest

from gsop.arena.block import Role
from gsop.arena.board import SeatBoard
from gsop.arena.drift_board import DriftBoard, DriftWriter
from gsop.arena.layout import Arena
from gsop.gates.drift import DriftStatus


def writer(arena: Arena, engine: int, incarnation: int = 1) -> DriftWriter:
    return DriftWriter(Arena.attach(arena.fd, Role("engine", engine)), incarnation)


def test_nothing_is_told_before_there_is_something(arena: Arena) -> None:
    SeatBoard(arena)
    assert DriftBoard(arena).status(0) == DriftStatus()


def test_the_engine_with_the_highest_score_speaks(arena: Arena) -> None:
    SeatBoard(arena)
    writer(arena, 0).tell(0, DriftStatus(0.5, 1, 300))
    writer(arena, 1).tell(0, DriftStatus(1.5, 7, 200))
    assert DriftBoard(arena).status(0) == DriftStatus(1.5, 7, 500)


def test_a_score_that_is_none_any_more_is_gone(arena: Arena) -> None:
    SeatBoard(arena)
    its = writer(arena, 0)
    its.tell(0, DriftStatus(0.5, 1, 300))
    its.tell(0, DriftStatus(None, 0, 10, is_learned=True))
    assert DriftBoard(arena).status(0) == DriftStatus(None, 0, 10, is_learned=True)


def test_what_the_dead_have_told_is_void(arena: Arena) -> None:
    seats = SeatBoard(arena)
    writer(arena, 0).tell(0, DriftStatus(2.5, 7, 200))
    seats.engine_died(0, was_ready=True)
    assert DriftBoard(arena).status(0) == DriftStatus()
    writer(arena, 0, incarnation=2)
    assert DriftBoard(arena).status(0) == DriftStatus()


def test_only_engines_write_it(arena: Arena) -> None:
    with pytest.raises(PermissionError):
        Arena.attach(arena.fd, Role("front", 0)).own("drift")
