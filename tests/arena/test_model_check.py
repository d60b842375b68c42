"""Every interleaving of what can happen to two requests, on the real memory.

One front, two engines, one slot for two requests after each other (and, in the second half, a slot
each). Whenever a process writes, sends or dies, another may come between: the check walks through
all orders in which that can be, and remembers each state that it has seen. What must hold in every
one of them:

- an answer that the front accepts is that of its own pixels;
- a request that is not given up is answered, whoever died, or given up as a killer of engines only
  after as many deaths as the front allows;
- no engine ever writes where another does (numpy refuses it).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gsop.arena.block import Role
from gsop.arena.layout import Arena
from gsop.arena.slot import EngineSlots, FrontSlots, Slot
from gsop.serving.link import MAX_CRASHES
from tests.arena.conftest import deployment

REGIONS = ("requests", "answers", "inputs", "outputs")
FIRST_TICKET = 1000


@dataclass(frozen=True)
class Engine:
    """What an engine process knows: it is lost when it dies.

    Attributes:
        inbox: tickets that were sent to it, oldest first.
        step: how far it is with the oldest: 0 not begun, then a write each.
        seen: the pixel that it has read.
    """

    inbox: tuple[tuple[int, int], ...] = ()
    step: int = 0
    seen: int = 0


@dataclass(frozen=True)
class Request:
    """What the front knows of one request.

    Attributes:
        state: new, waiting, answered, cancelled or crashed.
        slot, ticket, engine, crashes: as in the front's waiter.
    """

    state: str = "new"
    slot: int = -1
    ticket: int = 0
    engine: int = 0
    crashes: int = 0


@dataclass(frozen=True)
class State:
    """All that the next step depends on, but the memory."""

    requests: tuple[Request, ...]
    engines: tuple[Engine, ...]
    told: tuple[tuple[int, int, int], ...] = ()
    deaths_left: int = 2
    tickets: int = FIRST_TICKET


@dataclass
class World:
    """The real memory and the real hands on it, set back to each state before a step."""

    front_arena: Arena
    engine_arenas: list[Arena]
    slots: int
    front: FrontSlots = field(init=False)
    engines: list[EngineSlots] = field(init=False)

    def __post_init__(self) -> None:
        self.front = FrontSlots(self.front_arena)
        self.engines = [EngineSlots(arena) for arena in self.engine_arenas]

    def save(self) -> bytes:
        parts = [
            self.front_arena.own("requests").tobytes(),
            self.front_arena.own("inputs").tobytes(),
        ]
        for arena in self.engine_arenas:
            parts += [arena.own("answers").tobytes(), arena.own("outputs").tobytes()]
        return b"".join(parts)

    def load(self, memory: bytes, tickets: int) -> None:
        at = 0
        hands = [(self.front_arena, "requests"), (self.front_arena, "inputs")]
        for arena in self.engine_arenas:
            hands += [(arena, "answers"), (arena, "outputs")]
        for arena, region in hands:
            part = arena.own(region)
            size = part.nbytes
            part[...] = np.frombuffer(memory[at : at + size], part.dtype).reshape(part.shape)
            at += size
        self.front._ticket = tickets
        self.front._free.clear()  # which slots are free follows from the requests

    def slot(self, number: int) -> Slot:
        pixels = self.front_arena.own("inputs")[number, :48].reshape(4, 4, 3)
        return Slot(number, 0, pixels)


def pixel_of(request: int) -> int:
    return 50 + request


def steps(world: World, state: State) -> Iterator[State]:
    """Each thing that may happen next; the world is loaded anew before each is taken."""
    yield from front_steps(world, state)
    for number in range(len(state.engines)):
        yield from engine_steps(world, state, number)


def changed(before: State, number: int, **fields: object) -> State:
    requests = list(before.requests)
    requests[number] = replace(requests[number], **fields)  # type: ignore[arg-type]  # by name
    return replace(before, requests=tuple(requests))


def sent(state: State, number: int, engine: int) -> State:
    request = state.requests[number]
    engines = list(state.engines)
    inbox = (*engines[engine].inbox, (request.slot, request.ticket))
    engines[engine] = replace(engines[engine], inbox=inbox)
    return replace(changed(state, number, engine=engine), engines=tuple(engines))


def front_steps(world: World, state: State) -> Iterator[State]:
    held = {r.slot for r in state.requests if r.state == "waiting"}
    for number, request in enumerate(state.requests):
        if request.state == "new":
            free = [slot for slot in range(world.slots) if slot not in held]
            if free:
                for engine in range(len(state.engines)):
                    yield begin_request(world, state, number, free[0], engine)
        elif request.state == "waiting" and number == 0:
            # The first may be given up at any time, and its slot is the next one's at once.
            world.front.release(world.slot(request.slot))
            yield changed(state, number, state="cancelled")
    for place, (engine, slot, ticket) in enumerate(state.told):
        rest = (*state.told[:place], *state.told[place + 1 :])
        if any(other[0] == engine for other in state.told[:place]):
            continue  # a socket keeps its order
        yield hear(world, replace(state, told=rest), engine, slot, ticket)


def begin_request(world: World, state: State, number: int, slot: int, engine: int) -> State:
    ticket = world.front.renew(slot)
    world.slot(slot).pixels[:] = pixel_of(number)
    world.front.submit(slot, id=f"r{number}", top_k=1, deadline=1, submitted=1)
    state = replace(state, tickets=ticket)
    state = changed(state, number, state="waiting", slot=slot, ticket=ticket)
    return sent(state, number, engine)


def hear(world: World, state: State, engine: int, slot: int, ticket: int) -> State:
    for number, request in enumerate(state.requests):
        if request.state == "waiting" and (request.slot, request.ticket) == (slot, ticket):
            return accept(world, state, number, engine)
    return state


def accept(world: World, state: State, number: int, engine: int) -> State:
    request = state.requests[number]
    found = world.front.read(world.slot(request.slot), engine)
    assert found.values[0] == pixel_of(number), "it was given another one's answer"
    world.front.release(world.slot(request.slot))
    return changed(state, number, state="answered")


def engine_steps(world: World, state: State, number: int) -> Iterator[State]:
    engine = state.engines[number]
    if engine.inbox:
        yield work(world, state, number)
    if state.deaths_left and (engine.inbox or engine.step):
        yield die(world, state, number)


def work(world: World, state: State, number: int) -> State:
    """One write of the engine's, or one message."""
    engine, hand = state.engines[number], world.engines[number]
    slot, ticket = engine.inbox[0]
    told = state.told
    if engine.step == 0:
        if not hand.is_held(slot, ticket):
            engine = Engine(engine.inbox[1:])
        else:
            hand.begin([slot], [ticket])
            engine = replace(engine, step=1)
    elif engine.step == 1:
        engine = replace(engine, step=2, seen=int(hand.pixels(slot, 0)[0, 0, 0]))
    elif engine.step == 2:
        hand.answer([slot], np.full((1, 2), engine.seen, "f4"), started=1, finished=2)
        engine = replace(engine, step=3)
    elif engine.step == 3:
        hand.conclude(slot, ticket)
        engine = replace(engine, step=4)
    else:
        told = (*told, (number, slot, ticket))
        engine = Engine(engine.inbox[1:])
    engines = (*state.engines[:number], engine, *state.engines[number + 1 :])
    return replace(state, engines=engines, told=told)


def die(world: World, state: State, number: int) -> State:
    """What it has said is heard, then its connection ends, then its successor takes over."""
    engines = (*state.engines[:number], Engine(), *state.engines[number + 1 :])
    said = [message for message in state.told if message[0] == number]
    rest = tuple(message for message in state.told if message[0] != number)
    state = replace(state, engines=engines, told=rest, deaths_left=state.deaths_left - 1)
    for _, slot, ticket in said:
        state = hear(world, state, number, slot, ticket)
    for place, request in enumerate(state.requests):
        if request.state == "waiting" and request.engine == number:
            state = settle(world, state, place)
    return state


def settle(world: World, state: State, number: int) -> State:
    """As the front's link does it."""
    request = state.requests[number]
    if world.front.is_done(request.slot, request.ticket, request.engine):
        return accept(world, state, number, request.engine)
    crashes = request.crashes
    if world.front.has_begun(request.slot, request.ticket, request.engine):
        crashes += 1
        if crashes >= MAX_CRASHES:
            world.front.release(world.slot(request.slot))
            return changed(state, number, state="crashed")
    ticket = world.front.renew(request.slot)
    state = replace(changed(state, number, ticket=ticket, crashes=crashes), tickets=ticket)
    return sent(state, number, (request.engine + 1) % len(state.engines))


def check(world: World, deaths: int = 2) -> tuple[int, set[tuple[str, ...]]]:
    """Walk through all states with so many deaths; how many there are, and how they end."""
    world.load(bytes(len(world.save())), FIRST_TICKET)
    first = State((Request(), Request()), (Engine(),) * len(world.engines), (), deaths)
    todo = [(first, world.save())]
    seen = {todo[0]}
    ends: set[tuple[str, ...]] = set()
    while todo:
        state, memory = todo.pop()
        world.load(memory, state.tickets)
        found = 0
        following = steps(world, state)
        while (after := next(following, None)) is not None:
            found += 1
            key = (after, world.save())
            if key not in seen:
                seen.add(key)
                todo.append(key)
            world.load(memory, state.tickets)
        if not found:
            ends.add(tuple(request.state for request in state.requests))
    return len(seen), ends


def world_of(arena: Arena, engines: Sequence[int], slots: int) -> World:
    hands = [Arena.attach(arena.fd, Role("engine", number)) for number in engines]
    return World(Arena.attach(arena.fd, Role("front")), hands, slots)


@contextmanager
def memory(slots: int) -> Iterator[Arena]:
    """Of one front and two engines."""
    made = Arena.create(deployment(slots=slots, fronts=1))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def one_slot() -> Iterator[Arena]:
    with memory(1) as made:
        yield made


@pytest.mark.parametrize(
    ("slots", "engines", "deaths"), [(1, [0], 2), (2, [0], 2), (1, [0, 1], 2), (2, [0, 1], 1)]
)
def test_no_interleaving_breaks_a_promise(slots: int, engines: list[int], deaths: int) -> None:
    with memory(slots) as made:
        states, ends = check(world_of(made, engines, slots), deaths)
    assert states > 100
    # Two deaths are too few for an image to be given up: whoever was not cancelled is answered.
    assert ends == {("answered", "answered"), ("cancelled", "answered")}


def test_the_check_finds_engines_that_share_a_row(one_slot: Arena) -> None:
    """One finishes what was given up while another has the slot's next request."""
    with pytest.raises(AssertionError, match="another one's answer"):
        check(world_of(one_slot, [0, 0], 1))


def test_the_check_finds_an_answer_that_is_marked_before_it_is_written(
    one_slot: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(self: EngineSlots, numbers: list[int], values: object, **_: int) -> None:
        self._answer["done"][numbers] = self._answer["running"][numbers]

    monkeypatch.setattr(EngineSlots, "answer", answer)
    with pytest.raises(AssertionError, match="another one's answer"):
        check(world_of(one_slot, [0], 1))


def test_the_check_finds_a_ticket_that_is_used_twice(
    one_slot: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an engine wrote about the first request is then taken for the second's."""

    def renew(self: FrontSlots, number: int) -> int:
        self._request["ticket"][number - self._first] = FIRST_TICKET
        return FIRST_TICKET

    monkeypatch.setattr(FrontSlots, "renew", renew)
    with pytest.raises(AssertionError):
        check(world_of(one_slot, [0, 1], 1))
