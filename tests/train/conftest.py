"""Images that a network learns in seconds: dark ones, and light ones with a pattern."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.fabric import leave, make_fabric
from gsop.train.log import Log
from gsop.train.loop import Stopped, train
from gsop.train.recipe import OptimizerSpec, Recipe, Schedule

T = TypeVar("T")

FORKSERVER = multiprocessing.get_context("forkserver")
"""Processes of tests and trainings come from one server, which imports torch and all else once."""

FORKSERVER.set_forkserver_preload(["gsop.commands.train", "gsop.train.compare"])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread, and wait for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_folder(root: Path, images: int = 60, light: int | None = None) -> Path:
    """``images`` for each of two classes, as a folder of a folder for each class.

    ``light`` are those of the second one, if it has others.
    """
    rng = np.random.default_rng(0)
    for label, low, count in (("dark", 0, images), ("light", 130, light or images)):
        folder = root / label
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(low, low + 120, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two classes, one of them rare."""
    return make_folder(tmp_path_factory.mktemp("skewed"), images=95, light=25)


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    """Learns the folder in some thirty steps: 96 images to train on, 6 steps an epoch."""
    return Recipe(
        name="toy",
        config=GSoPResNetConfig(
            depth=18, stem="cifar", base_width=4, reduced_dim=4, num_classes=2, last_stride=2
        ),
        input=InputSpec(height=16, width=16, resize=16, mean=(0.5,) * 3, std=(0.5,) * 3),
        data=DataSpec(kind="folder", path=folder, validation=0.2),
        augment=AugmentSpec(flip=True),
        batch_size=16,
        optimizer=OptimizerSpec(learning_rate=5e-3),
        schedule=Schedule(steps=30, warmup=3, validate_every=0),
        ema_decay=0.8,
        log_every=5,
        checkpoint_every=1000,
        workers=0,
    )


@pytest.fixture
def short(recipe: Recipe) -> Recipe:
    """Twelve steps, with a look after every two."""
    return changed(recipe, schedule=Schedule(steps=12, warmup=1, validate_every=2))


def changed(recipe: Recipe, **fields: object) -> Recipe:
    """With other values."""
    return Recipe.model_validate(recipe.model_dump() | fields)


def stopped_after(last: int, recipe: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that SIGTERM ends after a step."""
    advance = Log.advance

    def and_stop(log: Log, step: int) -> None:
        advance(log, step)
        if step == last:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "advance", and_stop)
        with pytest.raises(Stopped):
            train(recipe, run, device="cpu", progress=False)


def always(recipe: Recipe, label: int) -> GSoPResNet:
    """A network that answers ``label`` whatever it sees."""
    model = GSoPResNet(recipe.config)
    for parameter in list(model.head.parameters()):
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        list(model.head.parameters())[-1][label] = 1
    return model


def in_two_processes(recipe: Recipe, work: Callable[[Fabric, Recipe], T]) -> list[T]:
    """What ``work`` returns in each of two processes that train together, by their rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = FORKSERVER.SimpleQueue()
    processes = [
        FORKSERVER.Process(target=_beside, args=(rank, port, recipe, work, found))
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    return [result for _, result in sorted(found.get() for _ in processes)]


def _beside(
    rank: int,
    port: int,
    recipe: Recipe,
    work: Callable[[Fabric, Recipe], T],
    found: "SimpleQueue[tuple[int, T]]",
) -> None:
    """One of two processes, as ``torchrun`` would start it."""
    torch.set_num_threads(1)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    fabric = make_fabric(recipe, "cpu")
    found.put((rank, work(fabric, recipe)))
    leave(fabric)
