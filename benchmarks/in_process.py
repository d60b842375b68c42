"""A service without its processes: its memory, and a front's application over instant engines."""

import asyncio
from pathlib import Path
from typing import NamedTuple, Self, cast

from fastapi import FastAPI

from gsop.api.http.app import FrontProcess, create_app
from gsop.api.http.routes import ROUTES
from gsop.api.http.service import Service
from gsop.arena.block import Role
from gsop.arena.board import EngineBoard, SeatBoard
from gsop.arena.deployment import Deployment
from gsop.arena.exemplars import Exemplars
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.arena.service_board import SupervisorBoard
from gsop.arena.states import EngineState
from gsop.processes.nursery import Birth, Report
from gsop.serving.book import VersionBook
from gsop.serving.callers import Callers
from gsop.serving.classify import Classifier
from gsop.serving.decoders import Decoders
from gsop.serving.engines import Engines
from gsop.serving.gates import GateQuestions
from gsop.serving.generation import Arenas, Generation, Generations
from gsop.serving.link import Waiter
from gsop.settings import Settings
from gsop.store.catalog import resolve

FRONT, ENGINE = Role("front"), Role("engine")


class Memories(NamedTuple):
    """The supervisor's hands on a service's memory, in which one engine is ready.

    Attributes:
        service: what outlives generations.
        arena: the first generation's.
    """

    service: ServiceMemory
    arena: Arena

    @classmethod
    def of(cls, store: Path, model: str = "null") -> Self:
        """Of a service with one front that has loaded a model of the store."""
        settings = Settings.model_validate({"model_store": store, "models": (model,), "fronts": 1})
        manifests = (resolve(store, model),)
        service = ServiceMemory.create(ServicePlan(settings=settings, routes=ROUTES))
        arena = Arena.create(Deployment(settings=settings, manifests=manifests, address="\0none"))
        VersionBook(service, SupervisorBoard(service), manifests)
        incarnation = SeatBoard(arena).incarnation(0)
        EngineBoard(Arena.attach(arena.fd, ENGINE), incarnation).enter(EngineState.READY)
        return cls(service, arena)


class _NoDecoder:
    """Takes the place of :class:`gsop.serving.decoders.Decoders`."""

    async def decode(self, *_: object, **__: object) -> None:
        """The pixels are there already."""
        await asyncio.sleep(0)


class _InstantEngines(Engines):
    """Engines that are done at once."""

    def _send(self, waiter: Waiter) -> None:
        asyncio.get_running_loop().call_soon(waiter.finish, 0)


def _no_fork(_: Birth) -> Report:
    raise OSError("there are no decoders here")


def application(memories: Memories) -> FastAPI:
    """The application as a front serves it, without HTTP around it and without decoders."""
    memory = ServiceMemory.attach(memories.service.fd, FRONT)
    arenas = Arenas(FRONT)
    app = create_app(FrontProcess(memory, arenas, 1, _no_fork))
    generations = Generations(memory, arenas, 1, _no_fork)
    arena = Arena.attach(memories.arena.fd, FRONT)
    engines = _InstantEngines(arena, generations.board, generations.meter)
    generations.use(Generation(1, engines, cast("Decoders", _NoDecoder())))
    app.state.service = Service(
        generations,
        Classifier(generations),
        GateQuestions(generations),
        Callers(memory),
        Exemplars(memory),
    )
    return app
