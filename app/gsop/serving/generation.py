"""A set of loaded versions, as a front uses it, and how a front goes from one to the next.

A generation is immutable: its slots, its engines and this front's decoders for it belong together.
When the supervisor hands the next one, requests go there from then on; those that the old one has
are answered by it. Only its memory of gates can still be asked, until the next one has taken that
over as well.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from gsop.arena.block import Role
from gsop.arena.bulletin import Bulletin
from gsop.arena.counters import Meter
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import FrontBoard, ServiceBoard
from gsop.serving.decoder import Plan
from gsop.serving.decoders import Decoders
from gsop.serving.decoding import Fork
from gsop.serving.engines import Engines
from gsop.serving.status import ServiceStatus
from gsop.serving.traffic import Routing

LOOK_SECONDS = 0.02
"""How often a front looks whether an old generation has become idle."""


class Generation:
    """One generation, as this front uses it.

    Attributes:
        number: which one it is.
        engines: where images are answered and gates remembered.
        decoders: turn files into pixels for its models.
    """

    def __init__(self, number: int, engines: Engines, decoders: Decoders) -> None:
        self.number = number
        self.engines = engines
        self.decoders = decoders
        self._decodes = False

    async def open(self) -> None:
        """Connect to the engines, and have decoders born."""
        await self.engines.open()
        self.decoders.__enter__()
        self._decodes = True

    def stop_decoding(self) -> None:
        """Let the decoders go: no image will come."""
        if self._decodes:
            self._decodes = False
            self.decoders.__exit__()

    def close(self) -> None:
        """Let everything go; whoever still waits learns that there is no engine."""
        self.engines.close()
        self.stop_decoding()


def plan_for(arena: Arena) -> Plan:
    """What decoders must know to decode for a generation."""
    settings = arena.deployment.settings
    return Plan(
        process=f"decoder of front {arena.role.number}",
        specs=tuple(manifest.input for manifest in arena.deployment.manifests),
        as_bundles=settings.pixels == "planes",
        max_pixels=settings.max_image_pixels,
        max_bytes=settings.max_body_bytes,
        seconds=settings.decode_seconds,
        cage=settings.cage,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


class Arenas:
    """The arenas that the supervisor hands to a front, before and after its event loop runs.

    Args:
        role: the front's.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self._handed: list[Arena] = []
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None

    def take(self, descriptor: int) -> None:
        """One is handed; in whatever thread."""
        with self._lock:
            self._handed.append(Arena.attach(descriptor, self._role))
            if self._wake is not None:
                self._wake()

    def next(self) -> Arena | None:
        """The newest that was handed since this was asked last; others are passed over."""
        with self._lock:
            handed, self._handed = self._handed, []
        for passed in handed[:-1]:
            passed.close()
        return handed[-1] if handed else None

    def on_next(self, wake: Callable[[], None]) -> None:
        """Call that, in whatever thread, for each one that is handed from now on."""
        with self._lock:
            self._wake = wake


class Generations:
    """A front's generations. An asynchronous context manager.

    Attributes:
        memory: the service's.
        board: what is told of the service.
        meter: the front's.
    """

    def __init__(self, memory: ServiceMemory, arenas: Arenas, incarnation: int, fork: Fork) -> None:
        self.memory = memory
        self.board = ServiceBoard(memory)
        self.meter = Meter(memory)
        self._own_board = FrontBoard(memory, incarnation)
        self._fork = fork
        self._routing = Bulletin(memory.view("traffic"), Routing.parse)
        self._status = Bulletin(memory.view("versions"), ServiceStatus.parse)
        self._generations: list[Generation] = []
        self._arenas = arenas
        self._handed = asyncio.Event()
        self._changing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._handed.set)

        self._arenas.on_next(wake)
        await self._attach()
        self._changing = loop.create_task(self._change())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._changing is not None:
            self._changing.cancel()
            with suppress(asyncio.CancelledError):
                await self._changing
        for generation in self._generations:
            generation.close()

    @property
    def present(self) -> Generation:
        """The one that gets this front's requests."""
        return self._generations[-1]

    @property
    def alive(self) -> list[Generation]:
        """Those that can be asked about gates, the present one first."""
        return self._generations[::-1]

    @property
    def routing(self) -> Routing:
        """How requests are spread over versions, now."""
        return self._routing.value

    @property
    def status(self) -> ServiceStatus:
        """What the supervisor tells of versions, now."""
        return self._status.value

    def serve(self) -> None:
        """Say that this front takes requests."""
        self._own_board.serve()

    async def _change(self) -> None:
        """Go to each next generation, and let go of old ones."""
        while True:
            if len(self._generations) == 1:
                await self._handed.wait()
            await self._attach()
            self._let_go()
            self._tell()
            await asyncio.sleep(LOOK_SECONDS)

    async def _attach(self) -> None:
        """Send requests to the newest arena that was handed."""
        self._handed.clear()
        if (arena := self._arenas.next()) is None:
            return
        engines = Engines(arena, self.board, self.meter)
        count = self.memory.settings.decoder_count
        decoders = Decoders(plan_for(arena), count, self.meter, self._fork)
        generation = Generation(arena.deployment.generation, engines, decoders)
        arena.close()  # the memory stays as long as it is seen
        await generation.open()
        self.use(generation)

    def use(self, generation: Generation) -> None:
        """Send requests there from now on."""
        self._generations.append(generation)
        self._tell()

    def _let_go(self) -> None:
        """Close old ones, as they become idle and the supervisor has done with them."""
        for generation in self._generations[:-1]:
            if not generation.engines.held:
                generation.stop_decoding()
            if generation.number < self.board.oldest_generation:
                generation.close()
                self._generations.remove(generation)

    def _tell(self) -> None:
        busy = (generation.number for generation in self._generations if generation.engines.held)
        newest = self.present.number
        self._own_board.use(newest=newest, oldest=min(busy, default=newest))
