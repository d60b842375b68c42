"""The ticket protocol: a front's hand and engines' hands on the same slots."""

import time

import numpy as np
import pytest

from gsop.arena.block import Role
from gsop.arena.layout import Arena
from gsop.arena.slot import Autopsy, EngineSlots, FrontSlots, Slot
from gsop.arena.states import Outcome


@pytest.fixture
def front(arena: Arena) -> FrontSlots:
    return FrontSlots(Arena.attach(arena.fd, Role("front", 1)))


@pytest.fixture
def engine(arena: Arena) -> EngineSlots:
    return EngineSlots(Arena.attach(arena.fd, Role("engine", 1)))


def submit(front: FrontSlots, slot: Slot, id_: str = "an id") -> int:
    return front.submit(slot.number, id=id_, top_k=3, deadline=99, submitted=11)


def test_a_request_reaches_the_engine(front: FrontSlots, engine: EngineSlots) -> None:
    slot = front.hold(model=0, caller=7)
    slot.pixels[:] = 9
    ticket = submit(front, slot)
    assert engine.is_held(slot.number, ticket)
    assert engine.request(slot.number) == (0, 99, 11)
    assert (engine.pixels(slot.number, 0) == 9).all()
    asked = engine.remembered([slot.number], [ticket])
    assert (asked.ids, asked.top_k, asked.callers, asked.held.tolist()) == (
        ["an id"],
        [3],
        [7],
        [True],
    )


def test_an_answer_reaches_the_front(front: FrontSlots, engine: EngineSlots) -> None:
    slot = front.hold(0, 0)
    ticket = submit(front, slot)
    assert not front.has_begun(slot.number, ticket, 1)
    engine.begin([slot.number], [ticket])
    assert front.has_begun(slot.number, ticket, 1)
    assert not front.has_begun(slot.number, ticket, 0), "another engine knows nothing of it"
    finite = engine.answer([slot.number], np.array([[0.25, 0.75]], "f4"), started=20, finished=30)
    assert finite.tolist() == [True]
    assert not front.is_done(slot.number, ticket, 1)
    engine.conclude(slot.number, ticket)
    assert front.is_done(slot.number, ticket, 1)
    found = front.read(slot, 1)
    assert (found.outcome, found.started, found.finished, found.batch) == (Outcome.OK, 20, 30, 1)
    np.testing.assert_array_equal(found.values, [0.25, 0.75])
    engine.answer([slot.number], np.zeros((1, 2), "f4"), started=0, finished=0)
    np.testing.assert_array_equal(found.values, [0.25, 0.75], "it is a copy")


def test_a_number_that_is_none_is_an_outcome(front: FrontSlots, engine: EngineSlots) -> None:
    slots = [front.hold(0, 0) for _ in range(2)]
    values = np.array([[0.5, 0.5], [np.nan, 1]], "f4")
    finite = engine.answer([slot.number for slot in slots], values, started=0, finished=0)
    assert finite.tolist() == [True, False]
    assert [front.read(slot, 1).outcome for slot in slots] == [Outcome.OK, Outcome.NON_FINITE]


def test_what_is_given_up_is_held_no_more(front: FrontSlots, engine: EngineSlots) -> None:
    slot = front.hold(0, 0)
    ticket = submit(front, slot, "given up")
    front.release(slot)
    assert not engine.is_held(slot.number, ticket)
    again = [front.hold(0, 0) for _ in range(2)]
    (same,) = [one for one in again if one.number == slot.number]
    assert submit(front, same, "the next") != ticket
    asked = engine.remembered([slot.number], [ticket])
    assert asked.held.tolist() == [False], "and the next one's id is not taken for its own"


def test_a_new_ticket_voids_what_was_written_about_the_last(
    front: FrontSlots, engine: EngineSlots
) -> None:
    slot = front.hold(0, 0)
    first = submit(front, slot)
    engine.begin([slot.number], [first])
    engine.conclude(slot.number, first)
    second = front.renew(slot.number)
    assert second > first
    assert not front.has_begun(slot.number, second, 1)
    assert not front.is_done(slot.number, second, 1)
    assert engine.is_held(slot.number, second)


def test_a_withdrawn_batch_was_never_begun(front: FrontSlots, engine: EngineSlots) -> None:
    slot = front.hold(0, 0)
    ticket = submit(front, slot)
    engine.begin([slot.number], [ticket])
    engine.withdraw([slot.number])
    assert not front.has_begun(slot.number, ticket, 1)


def test_slots_are_taken_and_given_back(front: FrontSlots) -> None:
    assert (front.capacity, front.free) == (2, 2)
    slots = [front.hold(0, 0) for _ in range(2)]
    assert {slot.number for slot in slots} == {2, 3}
    assert front.free == 0
    with pytest.raises(IndexError):
        front.hold(0, 0)
    for slot in slots:
        front.release(slot)
    assert front.free == 2


def test_a_successor_owns_its_predecessors_slots(arena: Arena, engine: EngineSlots) -> None:
    hand = Arena.attach(arena.fd, Role("front", 1))
    before = FrontSlots(hand)
    ticket = submit(before, before.hold(0, 0))
    successor = FrontSlots(hand)
    assert successor.free == 2
    assert not engine.is_held(2, ticket)
    slot = successor.hold(0, 0)
    assert submit(successor, slot) > ticket
    assert ticket < time.monotonic_ns()


def test_what_is_not_to_be_kept_is_not_remembered(front: FrontSlots, engine: EngineSlots) -> None:
    slot = front.hold(0, 0)
    ticket = front.submit(slot.number, id="x", top_k=1, deadline=9, submitted=1, kept=False)
    assert engine.is_held(slot.number, ticket)
    assert engine.remembered([slot.number], [ticket]).held.tolist() == [False]


def test_an_engine_dies_of_what_it_had_begun_and_only_once(
    arena: Arena, front: FrontSlots, engine: EngineSlots
) -> None:
    autopsy = Autopsy(arena)
    done, begun = front.hold(0, 0), front.hold(0, 0)
    tickets = [submit(front, slot) for slot in (done, begun)]
    assert autopsy.models(1) == set()
    engine.begin([done.number], tickets[:1])
    engine.conclude(done.number, tickets[0])
    assert autopsy.models(1) == set(), "what it had finished it did not die of"
    engine.begin([begun.number], tickets[1:])
    front.renew(begun.number)  # its front has noticed the death first, and sends it again
    assert autopsy.models(0) == set()
    assert autopsy.models(1) == {0}
    assert autopsy.models(1) == set()
