"""The gates' worth: the same network plain, with each kind of gate, and with each head.

One cell of the comparison is one run, of one variant from one seed, in a folder of its own below
the comparison's; all else in their recipes is the same. A cell that is finished is never trained
again, so a comparison that was stopped goes on where it was.
"""

import json
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch

from gsop.errors import ConfigError, SetupError
from gsop.model.cost import cost
from gsop.train.checkpoint import write_whole
from gsop.train.loop import train
from gsop.train.recipe import Recipe
from gsop.train.run import Run

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"attention": "none", "head": "gap"},
    "SE": {"attention": "se", "head": "gap"},
    "GSoP-channel": {"attention": "channel", "head": "gap"},
    "GSoP-position": {"attention": "position", "head": "gap"},
    "GSoP-fusion": {"attention": "fusion_avg", "head": "gap"},
    "Net2": {"attention": "channel", "head": "isqrt"},
    "Net2-plain": {"attention": "none", "head": "isqrt"},
}
"""What of the network's configuration differs, by name."""

USUAL = tuple(VARIANTS)[:6]
"""What is compared if nothing else is said: all but the head of Net2 without gates."""

_COST = "cost.json"


@dataclass(frozen=True)
class Cell:
    """One training of the comparison.

    Attributes:
        variant: a name of :data:`VARIANTS`.
        recipe: with that variant's network and its seed.
        folder: of its run.
    """

    variant: str
    recipe: Recipe
    folder: Path


@dataclass(frozen=True)
class Row:
    """What became of one variant.

    Attributes:
        variant: its name.
        top1: of the held-out images, 0 to 1, one a seed.
        parameters: numbers that are learnt.
        multiply_adds: for one image.
        seconds: of one processor for one training, held-out images included; one a seed.
    """

    variant: str
    top1: tuple[float, ...]
    parameters: int
    multiply_adds: int
    seconds: tuple[float, ...]


def cells(
    recipe: Recipe, folder: Path, *, variants: Iterable[str], seeds: Iterable[int]
) -> list[Cell]:
    """The comparison's cells, seed by seed: what is there when it is stopped can be compared.

    Args:
        recipe: that all have in common.
        folder: of the comparison.
        variants: names of :data:`VARIANTS`.
        seeds: of the first weights, and of the order and variation of the images.

    Raises:
        ConfigError: if there is no such variant, or there are no seeds.
    """
    variants, seeds = tuple(variants), tuple(seeds)
    if not seeds:
        raise ConfigError("nothing is compared from no seeds: set --seeds to 1 or more")
    if unknown := [name for name in variants if name not in VARIANTS]:
        raise ConfigError(
            f"there is no variant {', '.join(unknown)} to compare: there are {', '.join(VARIANTS)}"
        )
    return [
        Cell(
            variant=name,
            recipe=recipe.model_copy(
                update={
                    "name": f"{recipe.name}: {name}",
                    "config": replace(recipe.config, gated_blocks="last", **VARIANTS[name]),
                    "seed": seed,
                    "workers": 0,  # a cell is one process on one processor
                }
            ),
            folder=folder / f"{name}-{seed}",
        )
        for seed in seeds
        for name in variants
    ]


def run_cells(
    todo: Sequence[Cell], *, jobs: int, device: str, report: Callable[[Cell, int], None]
) -> None:
    """Train the cells that are not finished, ``jobs`` at a time, each on one processor.

    Args:
        todo: the cells.
        jobs: processes.
        device: where to train.
        report: called with each cell when it is finished, and how many are.

    Raises:
        ConfigError: if a folder holds the run of another recipe.
        SetupError: if a training fails.
    """
    left = [cell for cell in todo if not _is_finished(cell)]
    done = len(todo) - len(left)
    # A fork would copy the locks of torch's threads in whatever state they are in. Of a server that
    # has imported all and computed nothing it does not, and nobody waits for the imports twice.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(max(1, min(jobs, len(left))), mp_context=context) as processes:
        running = {processes.submit(run_cell, cell, device): cell for cell in left}
        try:
            for future in as_completed(running):
                future.result()
                done += 1
                report(running[future], done)
        except BrokenProcessPool as error:
            raise SetupError(
                "a training's process was killed, perhaps for want of memory: compare again, with "
                "fewer --jobs; finished trainings are kept"
            ) from error
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def run_cell(cell: Cell, device: str) -> None:
    """Train one cell in this process, on one thread; what a killed one has left is removed."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if cell.folder.exists():
        shutil.rmtree(cell.folder)
    began = time.process_time()
    train(cell.recipe, cell.folder, device=device, progress=False)
    seconds = time.process_time() - began
    write_whole(cell.folder / _COST, json.dumps({"processor_seconds": seconds}).encode())
    shutil.rmtree(cell.folder / "checkpoints", ignore_errors=True)  # it is never gone on with


def rows(found: Iterable[Cell]) -> list[Row]:
    """What became of each variant, in the order of the cells.

    Raises:
        SetupError: if a cell is not finished.
    """
    by_variant: dict[str, list[Cell]] = {}
    for cell in found:
        by_variant.setdefault(cell.variant, []).append(cell)
    return [_row(variant, of_it) for variant, of_it in by_variant.items()]


def _row(variant: str, of_it: Sequence[Cell]) -> Row:
    runs = [Run(cell.folder) for cell in of_it]
    spec = runs[0].recipe.input
    spent = cost(runs[0].recipe.config, spec.height, spec.width)
    return Row(
        variant=variant,
        top1=tuple(run.result.top1 for run in runs),
        parameters=spent.parameters,
        multiply_adds=spent.multiply_adds,
        seconds=tuple(_seconds(cell) for cell in of_it),
    )


def _seconds(cell: Cell) -> float:
    try:
        found = json.loads((cell.folder / _COST).read_text(encoding="utf-8"))
        return float(found["processor_seconds"])
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(
            f"{cell.folder / _COST} cannot be read ({error}): remove {cell.folder}, and compare "
            "again"
        ) from error


def _is_finished(cell: Cell) -> bool:
    """Whether the cell's folder holds its whole run.

    Raises:
        ConfigError: if it holds another's.
    """
    if not (cell.folder / _COST).exists():
        return False
    run = Run(cell.folder)
    if _comparable(run.recipe) != _comparable(cell.recipe):
        raise ConfigError(
            f"{cell.folder} holds the run of another recipe: choose another folder with --output, "
            "or remove this one"
        )
    return run.finished


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values, without the number of classes: the data decide on that."""
    values = recipe.model_dump(mode="json")
    values["config"] = {k: v for k, v in values["config"].items() if k != "num_classes"}
    return values


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Their mean, and their sample standard deviation (0 of a single one)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
