"""The parent of all: makes the memory, starts engines and fronts, replaces what dies, drains.

It never touches a request. Two nurseries fork its processes: one that has torch imported, the
engines; one that has not, the fronts and, asked by them, their decoders. When the supervisor dies,
however it dies, every process sees the end of its lifeline and goes too.
"""

import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from gsop.arena.deployment import Deployment
from gsop.arena.messages import address_prefix
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.arena.service_board import ServiceBoard, SupervisorBoard
from gsop.arena.states import Phase
from gsop.backends.registry import module_of
from gsop.processes.cage import check as check_cage
from gsop.processes.child import Child, end_children
from gsop.processes.listener import turn_away
from gsop.processes.nursery import Birth, Ending, Nursery, Report
from gsop.processes.orphans import Orphanage
from gsop.serving.engine_set import POLL_SECONDS, EngineSet
from gsop.serving.keyring import Keeper
from gsop.serving.on_demand import OnDemand
from gsop.settings import Settings
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")

BEAT_SECONDS = 0.5
ATTACH_SECONDS = 15.0
"""How long a front may take to connect to the next generation's engines."""

MOST_FRONT_FAILURES = 6
"""So often a front may die before any has ever served; then something is wrong with all of them."""

SPINS = {"GOMP_SPINCOUNT": "10000"}
"""How long a thread of a forward that waits for the others keeps its processor: some 20 µs.

Without the bound it is milliseconds, and where there are fewer processors than threads just then (a
front wants one, a container has a quota) that is the processor that the others need: a ResNet-50's
forward took up to 18 times its time (docs/performance.md)."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy would start a thread for each processor in every process, and none of ours needs them."""

INSPECTOR_SECONDS = 60.0
"""How long the inspector stays when nobody asks: loading its version anew takes seconds."""

_SECRET = re.compile("SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|_KEY$|_KEY_", re.IGNORECASE)
"""What is in the names of variables that hold one, such as AWS_SECRET_ACCESS_KEY."""

SHARED = "shared"
"""In place of the shared store's address, for processes that are not to know it."""

ARENA = b"arena"
"""Message through a front's lifeline: with it comes the next generation's arena."""

LINE = b"line"
"""Message through a front's lifeline: with it comes a new line to the nursery of the decoders."""


class Supervisor:
    """The service's processes. A context manager: what was started is gone at its end.

    Args:
        settings: the service's.
        manifests: the versions to load.
        routes: the calls that are counted by name.
        front_modules: what fronts have imported.
        adopt: whether orphans come to this process; only where all its children are ours.

    Attributes:
        memory: what outlives every generation.
        board: what the supervisor tells in it.
        failure: why the service cannot start, once that is known.
        take_arena: where the front is in this process: is given the descriptor of each next arena.
    """

    def __init__(
        self,
        settings: Settings,
        manifests: Sequence[Manifest],
        *,
        routes: tuple[str, ...] = (),
        front_modules: Sequence[str] = (),
        adopt: bool = False,
    ) -> None:
        if lacking := check_cage(settings.cage):
            log.warning(lacking)
        if not settings.replica:
            settings = settings.model_copy(update={"replica": secrets.token_hex(8)})
        if settings.shared_url:  # fronts need no password to know that there is one
            settings = settings.model_copy(update={"shared_url": SHARED})
        backend = module_of(settings.backend)
        self._folder = (
            tempfile.TemporaryDirectory(prefix="gsop-") if sys.platform != "linux" else None
        )
        prefix = address_prefix(secrets.token_hex(8), self._folder.name if self._folder else "")
        self.memory = ServiceMemory.create(
            ServicePlan(
                settings=settings,
                routes=routes,
                control=f"{prefix}-control",
                inspector=f"{prefix}-inspector",
            )
        )
        self.board = SupervisorBoard(self.memory)
        self.keeper = Keeper(self.board.keys, settings.api_keys)
        self.failure: str | None = None
        self.take_arena: Callable[[int], None] | None = None
        self._settings = settings
        self._seen = ServiceBoard(self.memory)
        self._orphanage = Orphanage(adopt=adopt)
        hidden = [] if settings.cage == "off" else ["gsop.processes.cage:hide"]
        self._engine_nursery = Nursery(
            [*hidden, "gsop.engine.process", backend], for_engines(os.environ), self._orphanage
        )
        self._front_nursery = Nursery(
            [*hidden, "gsop.serving.decoder", "gsop.images:prepare", *front_modules],
            for_fronts(os.environ),
            self._orphanage,
        )
        first = Deployment(settings=settings, manifests=tuple(manifests), address=prefix)
        self._present = EngineSet(
            first, self.memory.fd, self._engine_nursery, patient=True, on_failure=self._fail
        )
        self._inspector = OnDemand(
            "inspector", f"{prefix}-inspector", self._engine_nursery, self._inspector_birth
        )
        self._sets = [self._present]
        self._buried: Counter[int] = Counter()
        self._generation = first.generation
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._fronts: list[Child] = []
        self._incarnations = [1] * settings.front_count
        self._http: socket.socket | None = None
        self._beater = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._beater.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ended.set()
        self._beater.join()
        for engines in self._sets:
            engines.close()
        self.memory.close()
        if self._folder:
            self._folder.cleanup()

    @property
    def present(self) -> EngineSet:
        """The generation that gets the requests."""
        return self._present

    @property
    def engine_memory(self) -> int:
        """Bytes that the engines of all generations took when they had become ready."""
        statuses = [status for engines in self._sets for status in engines.board.engines()]
        return sum(status.memory for status in statuses)

    def deaths(self) -> Counter[int]:
        """How often engines died on batches of a version, by its place."""
        return sum((engines.deaths for engines in self._sets), self._buried.copy())

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop, or cannot start."""
        return self._stop.is_set()

    def start_engines(self) -> None:
        """Start one engine a device; and an inspector, as soon as somebody asks for it."""
        self._present.start()
        if self._settings.inspect:
            self._inspector.start()

    def start_fronts(self, entry: str, listener: socket.socket) -> None:
        """Start the processes that speak to the outside, each over the listening socket."""
        self._http = listener
        for front in range(self._settings.front_count):
            child = Child(
                f"front {front}",
                self._front_nursery,
                partial(self._front_birth, front, entry, listener),
                partial(self._front_died, front),
                self._hand_line,
            )
            self._fronts.append(child)
            child.start()

    def fork_decoder(self, birth: Birth) -> Report:
        """Have a decoder forked, for a front in this process; raises OSError if none can be had."""
        return self._front_nursery.fork_without_lifeline(birth)

    def wait(self) -> None:
        """Until :meth:`request_stop`, or until the service turns out not to be able to start."""
        self._stop.wait()

    def request_stop(self) -> None:
        """End :meth:`wait`; safe in a signal handler. Readiness goes off at once."""
        self.board.enter(Phase.LEAVING)
        self._stop.set()

    def stop(self) -> bool:
        """Drain and end everything; whether all went by itself within ``GSOP_DRAIN_SECONDS``."""
        self._stop.set()
        if self.failure is None and self._fronts:
            self.board.enter(Phase.LEAVING)
            time.sleep(self._settings.drain_delay_seconds)
            if self._http is not None:
                turn_away(self._http)
        self.board.enter(Phase.DRAINING)
        for front in self._fronts:
            front.retire()
        if self._http is not None:
            self._http.close()  # or new connections would wait in a queue that nobody serves
        clean = end_children(self._fronts, Child.terminate, self._settings.drain_seconds + 1)
        # Only now: what was in flight needed the engines, and their successors if they died.
        ended = [engines.end() for engines in self._sets]
        clean &= all(ended)
        self._fronts = []
        self._inspector.end()
        self._front_nursery.close()
        self._engine_nursery.close()
        return clean

    # ── generations ──────────────────────────────────────────────────────────────────────────

    def begin_generation(
        self, manifests: Sequence[Manifest], places: Sequence[int], *, patient: bool = False
    ) -> EngineSet:
        """The next generation's arena; its engines are not started yet.

        Args:
            manifests: the versions to load.
            places: under which each is counted.
            patient: whether engines that cannot start are tried again and again.

        Raises:
            ConfigError: if there is no memory for its slots.
            OSError: if there are no descriptors.
        """
        self._generation += 1
        present = self._present.deployment
        deployment = present.model_copy(
            update={
                "manifests": tuple(manifests),
                "places": tuple(places),
                "generation": self._generation,
                "turn": 1 - present.turn,
            }
        )
        engines = EngineSet(
            deployment,
            self.memory.fd,
            self._engine_nursery,
            patient=patient,
            on_failure=lambda _: None,  # whoever waits for it is told
        )
        self._sets.append(engines)
        return engines

    def use_generation(self, engines: EngineSet) -> None:
        """Have every front send its requests there; all do when this returns."""
        self._present = engines
        number = engines.deployment.generation
        for child in self._fronts:
            with suppress(OSError):  # it has died: its successor is born with the new one
                child.hand(ARENA, engines.arena.fd)
        if self.take_arena is not None:
            self.take_arena(engines.arena.fd)
        late = self._wait_for_fronts(lambda front: self._seen.newest_generation(front) >= number)
        for front in late:
            log.error("front %d does not take the next generation and is replaced", front)
            if front < len(self._fronts):
                self._fronts[front].signal(signal.SIGKILL)
        if late:
            self._wait_for_fronts(lambda front: self._seen.newest_generation(front) >= number)

    def wait_drained(self, seconds: float) -> bool:
        """Whether no front has an image in an older generation any more, within ``seconds``."""
        number = self._present.deployment.generation
        return not self._wait_for_fronts(
            lambda front: self._seen.oldest_held(front) >= number, seconds
        )

    def end_generation(self, engines: EngineSet) -> None:
        """End its engines; whoever still waits for one learns that."""
        self.board.end_before(self._present.deployment.generation)
        engines.end()
        self._sets.remove(engines)
        self._buried += engines.deaths
        engines.close()

    def _wait_for_fronts(
        self, is_done: Callable[[int], bool], seconds: float = ATTACH_SECONDS
    ) -> list[int]:
        """The fronts of which that is not true even after ``seconds``."""
        deadline = time.monotonic() + seconds
        fronts = range(self._settings.front_count)
        while late := [front for front in fronts if not is_done(front)]:
            if time.monotonic() > deadline or self.is_stopping:
                break
            time.sleep(POLL_SECONDS)
        return late

    # ── births and deaths ────────────────────────────────────────────────────────────────────

    def _beat(self) -> None:
        """Show that the supervisor lives, bury orphans, and end engines that hang."""
        while not self._ended.wait(BEAT_SECONDS):
            self.board.show_life()
            self._orphanage.bury()
            for engines in self._sets[:]:
                engines.kill_hung(self._settings.hang_seconds)

    def _inspector_birth(self, listener: int) -> Birth:
        settings = self._settings
        return Birth(
            "gsop-inspector",
            "gsop.inspection.process:main",
            [
                *(str(settings.model_store.absolute()), INSPECTOR_SECONDS, settings.cage),
                *(settings.log_level, settings.log_format),
            ],
            [listener],
        )

    def _front_birth(self, front: int, entry: str, listener: socket.socket) -> Birth:
        return Birth(
            f"gsop-front-{front}",
            entry,
            [front, self._incarnations[front]],
            [self.memory.fd, self._present.arena.fd, listener.fileno()],
            line=True,
        )

    def _front_died(self, front: int, ending: Ending) -> bool:
        incarnation = self._incarnations[front]
        self._incarnations[front] += 1
        if self._seen.serving_incarnation(front) == incarnation:
            return True
        has_served = any(map(self._seen.serving_incarnation, range(len(self._fronts))))
        if ending.reason is not None and not has_served:
            self._fail(ending.reason)
        elif ending.reason is not None:
            log.error("front %d cannot start: %s", front, ending.reason)
        elif not has_served and incarnation >= MOST_FRONT_FAILURES:
            self._fail(f"front {front} cannot start ({ending}): the log says why")
        return False

    def _hand_line(self, front: Child) -> None:
        """The nursery of the decoders has died, and the front lives: it asks the next one."""
        try:
            with self._front_nursery.line() as line:
                front.hand(LINE, line.fileno())
        except OSError as error:
            log.error("%s gets no decoders any more and is replaced: %s", front.name, error)
            front.signal(signal.SIGTERM)

    def _fail(self, reason: str) -> None:
        """The service cannot start: nothing is tried again."""
        self.failure = self.failure or reason
        for engines in self._sets:
            engines.retire()
        for front in self._fronts:
            front.retire()
        self._stop.set()


def for_engines(environment: Mapping[str, str]) -> dict[str, str]:
    """An engine's environment: ours without keys; :data:`SPINS`, unless the operator chose."""
    kept = {name: v for name, v in environment.items() if not name.startswith("GSOP_API_KEYS")}
    chosen = "OMP_WAIT_POLICY" in environment
    return ({} if chosen else SPINS) | ONE_THREAD | kept


def for_fronts(environment: Mapping[str, str]) -> dict[str, str]:
    """A front's environment, and its decoders': ours without secrets of the operator's.

    Nor does it have the settings, keys among them: the arena holds what fronts need of them.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("GSOP_") and not _SECRET.search(name)
    }
    return kept | ONE_THREAD
