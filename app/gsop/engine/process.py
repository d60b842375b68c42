"""The engine process: loads and warms its models, then runs :class:`gsop.engine.worker.Worker`."""

import logging
import os
import signal
import socket
import sys
import time
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch

from gsop.arena.layout import EXIT_SETUP, Arena, EngineState
from gsop.backends.base import (
    DEFAULT_MAX_BATCH,
    Predictor,
    find_backend,
    find_device,
    find_dtype,
)
from gsop.engine.worker import Worker
from gsop.errors import SetupError
from gsop.logs import configure
from gsop.model.resnet import GSoPResNet
from gsop.processes.memory import keep_freed_memory
from gsop.processes.scheduling import let_work_gather
from gsop.store.manifest import Manifest
from gsop.store.store import load

log = logging.getLogger("gsop.engine")

LONG_SECONDS = 0.03
"""An image that takes so long gains little from being computed with others."""

TIMED_BATCH = 16
"""Images that are timed together where each takes less: a small one alone takes several times as
long, most of it for what is done once for a batch."""


def main(arena_fd: int, engine: int, listener_fd: int) -> None:
    """Be the engine of that number, in a process of the nursery.

    Standard input is the lifeline: its end means that the supervisor stopped or died.
    """
    arena = Arena.attach(arena_fd)
    listener = socket.socket(fileno=listener_fd)
    # The supervisor alone decides when an engine stops: fronts may still wait for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = arena.deployment.settings
    configure(f"engine {engine}", level=settings.log_level, form=settings.log_format)
    status = arena.engines[engine : engine + 1]
    status["pid"] = os.getpid()
    let_work_gather()  # before there are threads, for they inherit it
    try:
        predictors = _load(arena, engine)
    except SetupError as error:
        _fail(status, error)
    status["state"] = EngineState.WARMING
    try:
        for predictor in predictors:
            _warm_up(predictor)
    except SetupError as error:
        _fail(status, error)
    status["batch_limit"] = min(predictor.max_batch for predictor in predictors)
    status["epoch"] += 1
    status["reason"] = b""
    status["beat"] = time.monotonic_ns()
    status["state"] = EngineState.READY
    log.info(
        "ready: %s on %s",
        ", ".join(f"{p.manifest.name}/{p.manifest.version}" for p in predictors),
        predictors[0].device,
    )
    try:
        Worker(arena, engine, predictors, listener, sys.stdin.fileno()).run()
    except Exception:  # whatever the device raises
        log.exception("the device failed: this engine ends, and a new one takes over what waits")
        os._exit(1)  # the device may hang whoever takes it down in good order
    status["state"] = EngineState.STOPPED
    os._exit(0)  # nothing is left to save, and torch takes seconds to take itself down


def _fail(status: npt.NDArray[np.void], error: SetupError) -> NoReturn:
    """Leave word of a mistake that starting again does not mend."""
    status["reason"] = str(error).encode()[:512]
    status["state"] = EngineState.FAILED
    sys.exit(EXIT_SETUP)


def _warm_up(predictor: Predictor) -> None:
    """Run every size of batch, and lower the largest until it fits into the device's memory.

    Raises:
        SetupError: if not even one image does.
    """
    while True:
        try:
            predictor.warm_up()
        except torch.OutOfMemoryError as error:
            manifest = predictor.manifest
            if predictor.max_batch == 1:
                raise SetupError(
                    f"{predictor.device} has no memory for one image of {manifest.name}/"
                    f"{manifest.version}: end what else uses it, or load fewer models"
                ) from error
            predictor.max_batch //= 2
            log.warning("batches are of %d at most: the device's memory", predictor.max_batch)
            if predictor.device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            return


def _load(arena: Arena, engine: int) -> list[Predictor]:
    """Read, verify and place every model of the deployment."""
    settings, status = arena.deployment.settings, arena.engines[engine : engine + 1]
    status["state"] = EngineState.LOADING
    backend = find_backend(settings.backend)
    device = find_device(settings.devices[engine])
    dtype = find_dtype(settings.precision, device)
    max_batch = settings.max_batch or DEFAULT_MAX_BATCH[device.type]
    status["device"] = str(device).encode()
    status["precision"] = str(dtype).removeprefix("torch.").encode()
    status["batch_limit"] = max_batch
    if device.type == "cpu":
        keep_freed_memory()
    loaded = []
    for expected in arena.deployment.manifests:
        manifest, model = load(settings.model_store / expected.name / expected.version)
        if manifest != expected:
            raise SetupError(
                f"{manifest.name}/{manifest.version} was replaced since the service started: "
                "start the service again"
            )
        loaded.append((manifest, model))
    torch.set_num_threads(1)
    slowest = max(_image_seconds(*version) for version in loaded) if device.type == "cpu" else 0.0
    torch.set_num_threads(settings.torch_thread_count(slowest))
    return [
        backend(
            manifest,
            model,
            device=device,
            dtype=dtype,
            max_batch=max_batch,
            cache=settings.cache_folder,
        )
        for manifest, model in loaded
    ]


def _image_seconds(manifest: Manifest, model: GSoPResNet) -> float:
    """How long an image takes, with the threads that are set, where many are computed together."""
    alone = _batch_seconds(manifest, model, 1)
    if alone > LONG_SECONDS:
        return alone
    return _batch_seconds(manifest, model, TIMED_BATCH) / TIMED_BATCH


def _batch_seconds(manifest: Manifest, model: GSoPResNet, size: int) -> float:
    """How long a batch takes: the second one, to be just."""
    images = torch.zeros(size, 3, manifest.input.height, manifest.input.width)
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            model.eval()(images)
    return time.perf_counter() - began
