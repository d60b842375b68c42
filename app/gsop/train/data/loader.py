"""The images of each step in a fixed order, loaded beside the training.

A step's *batch* is ``batch_size`` images over all processes; a *part* of it is what one process
computes at once. What a step sees follows from the seed and the step's number alone: not from how
many processes load it or train on it, nor from where a run was taken up again.
"""

import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gsop.cpus import cpu_count
from gsop.environment import cage_mode
from gsop.errors import ConfigError
from gsop.processes.cage import cage_loader
from gsop.train.data.balance import order_of_epoch
from gsop.train.data.dataset import BrokenImage, Classes, DataSet

MOST_WORKERS = 8
"""Loading processes for each training process, where the number is left to this module."""

STALL_SECONDS = 300
"""Without a part for so long, loading has failed: a batch for which there is no shared memory is
dropped without a word, and a decoder may hang. Workers start within this time, too."""

LOOK_SECONDS = 5
"""So often it is looked whether a worker has died, which torch does when its patience is over."""

TRIES = 100
"""Neighbours that are looked at in place of an image that cannot be read."""


class Part(NamedTuple):
    """The images of a step that one process computes at once.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        labels: (N,) int64.
        broken: names of the images that could not be read and were replaced.
    """

    pixels: Tensor
    labels: Tensor
    broken: tuple[str, ...]


def steps_per_epoch(dataset: DataSet, batch_size: int) -> int:
    """Whole batches in one pass over the images; what is left over waits for the next pass.

    Raises:
        ConfigError: if there are fewer images than a batch has.
    """
    if batch_size > len(dataset):
        raise ConfigError(
            f"a batch of {batch_size} is more than the {len(dataset)} images to train on: lower "
            "batch_size, or add images"
        )
    return len(dataset) // batch_size


def check_shares(batch_size: int, accumulate: int, world: int) -> None:
    """Whether a step's images can be shared out evenly among its parts and the processes.

    Raises:
        ConfigError: if they cannot.
    """
    if batch_size % (accumulate * world):
        raise ConfigError(
            f"{batch_size} images a step cannot be shared out evenly among {world} processes and "
            f"{accumulate} parts: make batch_size a multiple of {accumulate * world}"
        )


def loader(
    dataset: DataSet,
    *,
    batch_size: int,
    seed: int,
    steps: int,
    first_step: int = 0,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    draw: float = 0.0,
    workers: int = -1,
    pin_memory: bool = False,
) -> Iterable[Part]:
    """This process's parts of steps ``first_step`` to ``steps - 1``, ``accumulate`` for each step.

    Each pass over the images has an order of its own, and shows each of them once, unless ``draw``
    says otherwise. An image that cannot be read is replaced by
    the next one that can.

    Args:
        dataset: what to load.
        batch_size: images a step, over all training processes and their parts.
        seed: of the order and of each image's variation.
        steps: where to end.
        first_step: where to begin.
        accumulate: parts that each process computes of a step, one after the other.
        rank: number of this training process, from 0.
        world: training processes.
        draw: how far the classes are drawn alike, as of
            :class:`gsop.train.data.spec.BalanceSpec`.
        workers: processes that load for this one; 0 loads in this process; -1 takes as many as
            there are processors for each training process here, at most ``MOST_WORKERS``.
        pin_memory: whether the parts lie in memory that a CUDA device can read by itself.

    Raises:
        ConfigError: if a step's images cannot be shared out evenly, or are more than there are.
    """
    check_shares(batch_size, accumulate, world)
    if workers < 0:
        workers = min(MOST_WORKERS, max(1, cpu_count() // world))
    parts = _Parts(dataset, batch_size, seed, first_step, steps, accumulate, rank, world, draw)
    loaded = DataLoader(
        parts,
        batch_size=None,  # an item is a whole part already
        num_workers=workers,
        # fork would copy the threads' locks of this process in whatever state they are in.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_begin if workers else None,
        prefetch_factor=4 if workers else None,
        timeout=min(LOOK_SECONDS, STALL_SECONDS) if workers else 0,
        pin_memory=pin_memory,
    )
    return _Patient(loaded) if workers else loaded


class _Patient:
    """A loader whose workers may take :data:`STALL_SECONDS`, and whose death is noticed sooner."""

    def __init__(self, loaded: DataLoader[Part]) -> None:
        self._loaded = loaded

    def __iter__(self) -> Iterator[Part]:
        return self._wait_for(iter(self._loaded))  # which begins now, and not with the first part

    @staticmethod
    def _wait_for(parts: Iterator[Part]) -> Iterator[Part]:
        since = time.monotonic()
        while True:
            try:
                part = next(parts)
            except StopIteration:
                return
            except RuntimeError as error:
                if "timed out" not in str(error):  # torch's words, and it has no others
                    raise
                if time.monotonic() - since >= STALL_SECONDS:
                    raise RuntimeError(f"nothing for {STALL_SECONDS} seconds") from error
                continue
            yield part
            since = time.monotonic()


class _Parts(Dataset[Part]):
    """This process's parts of all steps, by number."""

    def __init__(
        self,
        dataset: DataSet,
        batch_size: int,
        seed: int,
        first_step: int,
        steps: int,
        accumulate: int,
        rank: int,
        world: int,
        draw: float,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._first = first_step * accumulate
        self._count = (steps - first_step) * accumulate
        self._accumulate = accumulate
        self._rank = rank
        self._world = world
        self._draw = draw
        self._epoch_steps = steps_per_epoch(dataset, batch_size)
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Part:
        step, part = divmod(self._first + number, self._accumulate)
        epoch, step_of_epoch = divmod(step, self._epoch_steps)
        share = self._batch_size // (self._accumulate * self._world)
        start = step_of_epoch * self._batch_size + (part * self._world + self._rank) * share
        images, labels, broken = [], [], []
        for place, index in enumerate(self._order_of(epoch)[start : start + share], start):
            # An image that is drawn twice in a pass is varied twice.
            seeds = (self._seed, epoch, int(index), *((place,) if self._draw else ()))
            pixels, label, passed_over = self._load(int(index), seeds)
            images.append(torch.from_numpy(np.ascontiguousarray(pixels)))
            labels.append(label)
            broken.extend(passed_over)
        return Part(torch.stack(images), torch.tensor(labels), tuple(broken))

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng((self._seed, epoch))
            self._order = epoch, order_of_epoch(self._labels, self._draw, rng)
        return self._order[1]

    @cached_property
    def _labels(self) -> Classes:
        return self._dataset.training_labels()

    def _load(self, index: int, seeds: tuple[int, ...]) -> tuple[NDArray[np.uint8], int, list[str]]:
        """The image, its class, and the names of those before it that could not be read."""
        entropy = np.random.SeedSequence(seeds)
        seed = int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
        broken: list[str] = []
        for neighbour in range(min(TRIES, len(self._dataset))):
            try:
                found = self._dataset.training_image((index + neighbour) % len(self._dataset), seed)
            except BrokenImage as error:
                broken.append(error.name)
            else:
                return *found, broken
        raise ConfigError(
            f"{len(broken)} images in a row cannot be read, the first {broken[0]}: mend the data"
        )


def _begin(worker: int) -> None:
    """In each worker, before its first image."""
    # They share the processors among themselves; threads inside of each would only compete.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cage_loader(cage_mode())  # images of strangers' are decoded here
