"""What is told of the service as a whole."""

import time

from gsop.arena.block import Role
from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import FrontBoard, ServiceBoard, SupervisorBoard
from gsop.arena.states import Phase


def test_a_front_serves_under_its_incarnation(memory: ServiceMemory) -> None:
    seen = ServiceBoard(memory)
    assert seen.serving_incarnation(1) == 0
    FrontBoard(ServiceMemory.attach(memory.fd, Role("front", 1)), 3).serve()
    assert [seen.serving_incarnation(front) for front in (0, 1)] == [0, 3]


def test_there_is_no_way_back_from_the_end(memory: ServiceMemory) -> None:
    supervisor, seen = SupervisorBoard(memory), ServiceBoard(memory)
    assert (seen.phase, seen.is_draining) == (Phase.SERVING, False)
    for entered, phase in (
        (Phase.LEAVING, Phase.LEAVING),
        (Phase.DRAINING, Phase.DRAINING),
        (Phase.LEAVING, Phase.DRAINING),
    ):
        supervisor.enter(entered)
        assert (seen.phase, seen.is_draining) == (phase, phase == Phase.DRAINING)


def test_the_supervisor_shows_that_it_lives(memory: ServiceMemory) -> None:
    supervisor, seen = SupervisorBoard(memory), ServiceBoard(memory)
    before = time.monotonic_ns()
    assert seen.supervisor_beat <= before
    supervisor.show_life()
    assert seen.supervisor_beat >= before


def test_fronts_tell_which_generations_they_have(memory: ServiceMemory) -> None:
    supervisor, seen = SupervisorBoard(memory), ServiceBoard(memory)
    front = FrontBoard(ServiceMemory.attach(memory.fd, Role("front", 1)), 1)
    front.use(newest=3, oldest=2)
    assert (seen.newest_generation(1), seen.oldest_held(1)) == (3, 2)
    assert seen.newest_generation(0) == 0
    supervisor.end_before(3)
    assert seen.oldest_generation == 3
