"""What processes tell of themselves, and that the dead tell nothing."""

from gsop.arena.block import Role
from gsop.arena.board import Board, EngineBoard, SeatBoard
from gsop.arena.layout import Arena
from gsop.arena.states import EngineState


def engine(arena: Arena, incarnation: int, number: int = 0) -> EngineBoard:
    return EngineBoard(Arena.attach(arena.fd, Role("engine", number)), incarnation)


def test_an_engine_comes_up(arena: Arena) -> None:
    SeatBoard(arena)
    seen = Board(Arena.attach(arena.fd, Role("front")))
    assert seen.engine(0).state == EngineState.STARTING
    assert not seen.was_ready
    told = engine(arena, 1)
    for state in (EngineState.LOADING, EngineState.WARMING, EngineState.READY):
        told.enter(state)
        assert seen.engine(0).state == state
    told.describe(device="cpu", precision="float32", batch_limit=16)
    told.expect(fixed_seconds=0.5, image_seconds=0.25)
    told.be_busy(7)
    status = seen.engine(0)
    assert (status.device, status.precision, status.batch_limit) == ("cpu", "float32", 16)
    assert (status.fixed_seconds, status.image_seconds, status.busy_since) == (0.5, 0.25, 7)
    assert (status.epoch, status.restarts) == (1, 0)
    assert seen.is_ready(0)
    assert not seen.is_ready(1)
    assert seen.was_ready


def test_what_a_dead_engine_wrote_is_void_at_once(arena: Arena) -> None:
    supervisor, seen = SeatBoard(arena), Board(arena)
    first = engine(arena, supervisor.incarnation(0))
    first.enter(EngineState.READY)
    first.be_busy(7)
    supervisor.engine_died(0, was_ready=True)
    status = seen.engine(0)
    assert (status.state, status.busy_since, status.restarts) == (EngineState.STARTING, 0, 1)
    assert not seen.is_ready(0)
    assert seen.was_ready, "requests are still taken"
    first.be_busy(8)  # as from a process that is dying while its end is noticed
    assert seen.engine(0).busy_since == 0
    engine(arena, supervisor.incarnation(0)).enter(EngineState.READY)
    status = seen.engine(0)
    assert (status.state, status.epoch, status.restarts) == (EngineState.READY, 2, 1)


def test_an_engine_that_never_became_ready_has_failed(arena: Arena) -> None:
    supervisor, seen = SeatBoard(arena), Board(arena)
    engine(arena, 1).enter(EngineState.WARMING)
    supervisor.engine_died(0, was_ready=False)
    assert seen.engine(0).state == EngineState.FAILED
    engine(arena, 2).enter(EngineState.LOADING)
    assert seen.engine(0).state == EngineState.LOADING
