"""What the engines of a generation tell of themselves, each in its own record.

A process that dies cannot say so. So the supervisor says which *incarnation* of an engine is the
present one, and whatever another incarnation wrote is void: nobody has to clean up after the dead.
"""

import time
from typing import NamedTuple

from gsop.arena.block import fields_of
from gsop.arena.layout import Arena
from gsop.arena.states import EngineState


class EngineStatus(NamedTuple):
    """What is known of one engine.

    Attributes:
        state: what it is doing.
        epoch: how often it has become ready.
        restarts: how often its process was started again.
        beat: monotonic ns of its loop's last round.
        busy_since: monotonic ns at which its oldest unfinished batch began; 0 if there is none.
        batch_limit: most images that it puts into a batch.
        fixed_seconds, image_seconds: that a batch is expected to take, and for each image in it.
        device, precision: what it runs on.
        memory: bytes that its process took when it had become ready.
    """

    state: EngineState
    epoch: int
    restarts: int
    beat: int
    busy_since: int
    batch_limit: int
    fixed_seconds: float
    image_seconds: float
    device: str
    precision: str
    memory: int


class Board:
    """Reads all of a generation's records."""

    def __init__(self, arena: Arena) -> None:
        self._seats = arena.view("seats")
        self._engines = arena.view("engines")
        self._slots = arena.view("requests")["ticket"]
        # For those that are asked on every request:
        self._epochs = self._engines["epoch"]
        self._states = self._engines["state"]
        self._written_by = self._engines["incarnation"]
        self._present = self._seats["incarnation"]

    @property
    def slots_used(self) -> int:
        """Slots with an image in them."""
        return int((self._slots != 0).sum())

    @property
    def was_ready(self) -> bool:
        """Whether any engine has ever been ready."""
        return bool(self._epochs.any())

    def is_ready(self, engine: int) -> bool:
        """Whether that engine answers now."""
        return bool(
            self._states.item(engine) == EngineState.READY
            and self._written_by.item(engine) == self._present.item(engine)
        )

    def engine(self, number: int) -> EngineStatus:
        """What is known of that engine."""
        seat, record = self._seats[number], self._engines[number]
        is_present = record["incarnation"] == seat["incarnation"]
        if is_present:
            state = EngineState(int(record["state"]))
        else:
            state = EngineState.FAILED if seat["failed"] else EngineState.STARTING
        return EngineStatus(
            state=state,
            epoch=int(record["epoch"]),
            restarts=max(0, int(seat["incarnation"]) - 1),
            beat=int(record["beat"]),
            busy_since=int(record["busy_since"]) if is_present else 0,
            batch_limit=int(record["batch_limit"]),
            fixed_seconds=float(record["fixed_seconds"]),
            image_seconds=float(record["image_seconds"]),
            device=record["device"].decode(),
            precision=record["precision"].decode(),
            memory=int(record["memory"]),
        )

    def engines(self) -> list[EngineStatus]:
        """What is known of each engine."""
        return [self.engine(number) for number in range(len(self._engines))]


class SeatBoard:
    """What the supervisor tells of the engines."""

    def __init__(self, arena: Arena) -> None:
        self._seats = arena.own("seats")
        self._seats["incarnation"] = 1

    def incarnation(self, engine: int) -> int:
        """The present incarnation of that engine."""
        return int(self._seats["incarnation"][engine])

    def engine_died(self, engine: int, *, was_ready: bool) -> None:
        """Its process is gone: the next one will be that engine."""
        self._seats["failed"][engine] = not was_ready
        self._seats["incarnation"][engine] += 1


class EngineBoard:
    """What an engine tells.

    Attributes:
        incarnation: which process of the engine this one is.
    """

    def __init__(self, arena: Arena, incarnation: int) -> None:
        self._fields = fields_of(arena.own("engines"))
        self._fields["state"][()] = EngineState.STARTING
        self._fields["busy_since"][()] = 0
        self.show_life()
        self._fields["incarnation"][()] = incarnation
        self.incarnation = incarnation

    def enter(self, state: EngineState) -> None:
        """Do something else from now on."""
        if state == EngineState.READY:
            self._fields["epoch"][()] += 1
            self.show_life()
        self._fields["state"][()] = state

    def show_life(self) -> None:
        """The engine's loop turns."""
        self._fields["beat"][()] = time.monotonic_ns()

    def be_busy(self, since: int) -> None:
        """Its oldest unfinished batch began then, monotonic ns; 0: there is none."""
        self._fields["busy_since"][()] = since

    def describe(self, *, device: str, precision: str, batch_limit: int) -> None:
        """What it runs on."""
        self._fields["device"][()] = device.encode()
        self._fields["precision"][()] = precision.encode()
        self._fields["batch_limit"][()] = batch_limit

    def use_memory(self, taken: int) -> None:
        """It takes so many bytes of memory."""
        self._fields["memory"][()] = taken

    def limit_batches(self, most: int) -> None:
        """The device has room for so many images at most."""
        self._fields["batch_limit"][()] = most

    def expect(self, *, fixed_seconds: float, image_seconds: float) -> None:
        """What batches are expected to take."""
        self._fields["fixed_seconds"][()] = fixed_seconds
        self._fields["image_seconds"][()] = image_seconds
