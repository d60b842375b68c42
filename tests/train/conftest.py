"""Images that a network learns in seconds: dark ones, and light ones with a pattern."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.recipe import OptimizerSpec, Recipe, Schedule

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


def make_folder(root: Path, images: int = 60) -> Path:
    """``images`` for each of two classes, as a folder of a folder for each class."""
    rng = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 130)):
        folder = root / label
        folder.mkdir(parents=True)
        for index in range(images):
            pixels = rng.integers(low, low + 120, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"))


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
