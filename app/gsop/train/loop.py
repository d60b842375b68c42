"""The training loop, to be read from top to bottom.

::

    data ─ loader ─ parts ─ forward ─ loss ─ backward ─ step ─ average ┬─ log
             └ workers: decode, augment                                ├─ held-out images
                                                                       └─ checkpoint

All that a step does follows from the recipe and the step's number, so a run that goes on from a
checkpoint ends in the weights of one that was never stopped. What a checkpoint holds is in
:mod:`gsop.train.state`, what a step does in :mod:`gsop.train.step`, what is seen of it in
:mod:`gsop.train.watch`, and what happens after which step in :mod:`gsop.train.timetable`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gsop.errors import ConfigError, SetupError
from gsop.model.resnet import GSoPResNet
from gsop.train import checkpoint
from gsop.train.checkpoint import newest_step
from gsop.train.data.balance import loss_weights
from gsop.train.data.dataset import DataSet, Sample
from gsop.train.data.loader import Part, check_shares, loader
from gsop.train.evaluate import Score
from gsop.train.fabric import largest_of_all, leave, make_fabric, union_of_all
from gsop.train.log import Log
from gsop.train.optimizer import set_learning_rate
from gsop.train.plots import plot_run
from gsop.train.preview import write_preview
from gsop.train.recipe import Recipe
from gsop.train.run import DataInfo, Result, Run
from gsop.train.signals import noted_signals
from gsop.train.state import State, begin
from gsop.train.step import take_step, update_average
from gsop.train.timetable import Timetable
from gsop.train.trackers import check_installed
from gsop.train.watch import (
    Meter,
    check_everywhere,
    check_finite,
    columns,
    make_row,
    note_broken,
    score_beside,
    score_held_out,
)


class Stopped(Exception):
    """The run was asked to stop, and has written a checkpoint.

    Attributes:
        signal: that asked.
        step: steps done.
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.signal = signal
        self.step = step


OnLook = Callable[[int, Score], None]
"""Is told of each look at the held-out images: after how many steps, and what was found. What it
raises ends the run where it is."""


@dataclass(frozen=True)
class _Setup:
    """What a run works with and never changes; what changes is its state."""

    fabric: Fabric
    recipe: Recipe
    data: DataSet
    timetable: Timetable
    run: Run
    on_look: OnLook | None

    @cached_property
    def held_out(self) -> Sequence[Sample]:
        return self.data.held_out()


def train(
    recipe: Recipe,
    folder: Path,
    *,
    initial: GSoPResNet | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
    on_look: OnLook | None = None,
) -> Result:
    """Train one network, in this process alone or beside those that ``torchrun`` started.

    On one CPU process the same recipe and data give the same weights, on a like machine with as
    many threads, whether the run was stopped in between or not.

    Args:
        recipe: what to train, on what, and how.
        folder: the run's; see :mod:`gsop.train.run` for what it will hold.
        initial: weights to start from, where the recipe names a backbone; of the data's classes.
        resume: go on with the run in ``folder``, from its newest checkpoint.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: whether to draw a progress bar on the standard error.
        on_look: is told of each look at the held-out images.

    Returns:
        What the run came to, as in its ``result.json``.

    Raises:
        ConfigError: if the recipe, the data, the device or the folder do not work.
        SetupError: if the training diverges, too many images cannot be read, or the weights
            cannot be written.
        Stopped: on SIGTERM or SIGINT, after a checkpoint.
    """
    setup = _open(recipe, folder, device, on_look, resume=resume)
    if setup.run.finished:
        return setup.run.result
    fabric = setup.fabric
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        state = begin(fabric, setup.recipe, initial)
        if (found := checkpoint.load(setup.run.checkpoints)) is not None:
            state.restore(found[1], fabric.device)
        with noted_signals() as asked, _open_log(setup, state.step, progress=progress) as log:
            if passed_over := setup.data.source.get("passed over"):
                log.say(f"of the folder: {passed_over}")
            if state.step == setup.timetable.total_steps:  # stopped after the last one
                _look(setup, state, log)
            _go_on(setup, state, log, asked)
            return _finish(setup, state, log)


def _go_on(setup: _Setup, state: State, log: Log, asked: list[int]) -> None:
    """Take step after step: to the last one, or until a signal is in ``asked``."""
    fabric, recipe, timetable = setup.fabric, setup.recipe, setup.timetable
    loaded, weights = _load(setup, state.step), _weights(setup)
    clock = time.perf_counter()
    while not _is_over(setup, state):
        rate = set_learning_rate(state.optimizer, recipe, state.step, timetable.epoch_steps)
        try:
            batch = _next_batch(loaded, recipe.accumulate, state.meter, asked)
        except (RuntimeError, OSError, EOFError) as error:
            if fabric.world_size == 1:  # several save together, and the others are still at work
                state.save(fabric, setup.run.checkpoints, log.say)
            raise _loaders_failed(error, setup) from error
        if batch is not None and not state.step and fabric.is_global_zero:
            _preview(setup, batch[0], log)
        if batch is None:
            state.save(fabric, setup.run.checkpoints, log.say)
            raise Stopped(asked[0], state.step)
        note_broken(
            batch,
            state.totals.broken,
            images=len(setup.data),
            max_broken=recipe.max_broken,
            say=log.say,
        )
        gates = take_step(
            fabric, recipe, state.network, state.optimizer, batch, state.meter, weights
        )
        state.step += 1
        if state.average is not None:
            update_average(state.average, state.model, decay=recipe.ema_decay, step=state.step)
        log.advance(state.step)

        looks = timetable.validates(state.step) or timetable.is_last(state.step)
        score = _look(setup, state, log) if looks else None
        plain = _look_without_average(setup, state) if looks else None
        clock, since = time.perf_counter(), clock
        state.meter.seconds += clock - since
        if timetable.logs(state.step) or score is not None:
            _write_row(setup, state, log, gates, rate, score, plain)
        stop = _signal_of_all(setup, state.step, asked)
        if stop or timetable.saves(state.step) or _is_over(setup, state):
            check_everywhere(fabric, state.meter, state.step)  # or the others would wait for ever
            state.save(fabric, setup.run.checkpoints, log.say)
        if stop and not _is_over(setup, state):
            raise Stopped(stop, state.step)


def _finish(setup: _Setup, state: State, log: Log) -> Result:
    """Keep weights, result and pictures."""
    fabric, run, totals = setup.fabric, setup.run, state.totals
    keeps_best = setup.recipe.keep == "best"
    images = state.step * setup.recipe.batch_size
    result = Result(
        steps=state.step,
        images=images,
        seconds=totals.seconds,
        images_per_second=images / totals.seconds,
        waiting=totals.waiting / totals.seconds,
        loss=totals.loss,
        top1=totals.best_top1 if keeps_best else totals.top1,
        held_out_loss=totals.best_loss if keeps_best else totals.held_out_loss,
        best_step=totals.best_step,
        best_loss=totals.best_loss,
        ended_early=state.step < setup.timetable.total_steps,
        held_out=len(setup.held_out),
        broken=tuple(sorted(union_of_all(fabric, totals.broken))),
        processes=fabric.world_size,
        device=fabric.device.type,
    )
    if fabric.is_global_zero:
        run.finish(run.best_weights() if keeps_best else state.kept.state_dict(), result)
        try:
            plot_run(run.folder)
        except OSError as error:
            log.say(f"the pictures were not written ({error}): make room; log.csv is there")
        if result.broken:
            log.say(f"{len(result.broken)} images could not be read; result.json names them")
    leave(fabric)
    return result


# ── what a run is opened with ────────────────────────────────────────────────────────────────────


def _open(
    recipe: Recipe, folder: Path, device: str, on_look: OnLook | None, *, resume: bool
) -> _Setup:
    data = recipe.open_data()
    recipe = recipe.for_classes(len(data.labels))
    check_installed(recipe.trackers)
    fabric = make_fabric(recipe, device)
    # Before there is a folder, which the next attempt would find in its way.
    timetable = Timetable.of(recipe, data)
    check_shares(recipe.batch_size, recipe.accumulate, fabric.world_size)
    run = _open_run(fabric, recipe, folder, data, resume=resume)
    return _Setup(fabric, recipe, data, timetable, run, on_look)


def _open_run(fabric: Fabric, recipe: Recipe, folder: Path, data: DataSet, *, resume: bool) -> Run:
    info = DataInfo.of(data)
    if not resume:
        if fabric.is_global_zero:
            Run.create(folder, recipe, info)
        fabric.barrier()
        return Run(folder)
    run = Run(folder)
    if run.data.fingerprint != info.fingerprint:
        raise ConfigError(
            f"the images are no longer those that the run in {folder} began with: restore them, "
            "or start a run of its own for the new ones"
        )
    return run


def _open_log(setup: _Setup, step: int, *, progress: bool) -> Log:
    """The log, which goes on after the last step that was done."""
    return Log(
        setup.run.folder if setup.fabric.is_global_zero else None,
        columns(setup.recipe),
        step=step,
        total=setup.timetable.total_steps,
        recipe=setup.recipe,
        progress=progress,
    )


def _load(setup: _Setup, first_step: int) -> Iterator[Part]:
    """This process's parts of the steps that are left."""
    fabric, recipe = setup.fabric, setup.recipe
    loaded = loader(
        setup.data,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=first_step,
        steps=setup.timetable.total_steps,
        accumulate=recipe.accumulate,
        rank=fabric.global_rank,
        world=fabric.world_size,
        draw=recipe.balance.draw,
        workers=recipe.workers,
        pin_memory=fabric.device.type == "cuda",
    )
    # A loader draws a number as it begins, which nothing uses: a run that goes on would draw it
    # twice, and mix its images otherwise than one that was never stopped.
    with torch.random.fork_rng(devices=[]):
        try:
            return iter(loaded)
        except OSError as error:  # no room for so much as a lock
            raise _loaders_failed(error, setup) from error


def _weights(setup: _Setup) -> Tensor | None:
    """Of the classes in the loss."""
    data = setup.data
    found = loss_weights(data.training_labels(), len(data.labels), setup.recipe.balance)
    return (
        None if found is None else torch.tensor(found, dtype=torch.float32).to(setup.fabric.device)
    )


# ── what surrounds a step ────────────────────────────────────────────────────────────────────────


def _next_batch(
    loaded: Iterator[Part], parts: int, meter: Meter, asked: Sequence[int]
) -> list[Part] | None:
    """This process's parts of the next step; ``None`` if a signal has ended who loads them.

    Ctrl-C, and many a supervisor's SIGTERM, reach the loading processes too, which die of it.
    """
    began = time.perf_counter()
    try:
        batch = [next(loaded) for _ in range(parts)]
    except (RuntimeError, OSError, EOFError):
        if not asked:
            raise
        return None
    meter.waiting += time.perf_counter() - began
    return batch


def _loaders_failed(error: Exception, setup: _Setup) -> SetupError:
    folder, reason = setup.run.folder, (str(error) or repr(error)).splitlines()[0]
    return SetupError(
        f"the processes that load images hand nothing over ({reason}): give them more shared "
        "memory (of a container: --shm-size=2g) or memory, or load without them (--workers 0); "
        f"`gsop train --resume {folder}` goes on after step {newest_step(setup.run.checkpoints)}"
    )


def _is_over(setup: _Setup, state: State) -> bool:
    """Whether the last step is done, or the held-out loss has not fallen for too many looks."""
    patience = setup.recipe.schedule.patience
    tired = patience > 0 and state.totals.looks_since_best >= patience
    return tired or state.step >= setup.timetable.total_steps


def _look(setup: _Setup, state: State, log: Log) -> Score:
    """Score the network that would be kept on the held-out images; the best is kept beside."""
    found = score_held_out(setup.fabric, state.kept, setup.recipe.input, setup.held_out)
    if state.totals.add_score(found, state.step) and setup.fabric.is_global_zero:
        try:
            setup.run.keep_best(state.kept.state_dict())
        except OSError as error:
            log.say(f"the best weights so far were not written ({error}): make room")
    if setup.on_look is not None:
        setup.on_look(state.step, found)
    return found


def _look_without_average(setup: _Setup, state: State) -> Score | None:
    """Score the weights as they are, where it is their average that would be kept, now and then."""
    held_out, batch_size = len(setup.held_out), setup.recipe.batch_size
    if state.average is None or not setup.timetable.looks_beside(
        state.step, held_out=held_out, batch_size=batch_size
    ):
        return None
    return score_beside(setup.fabric, state.model, setup.recipe.input, setup.held_out)


def _preview(setup: _Setup, part: Part, log: Log) -> None:
    try:
        write_preview(part, setup.data.labels, setup.run.folder / "preview.png")
    except OSError as error:
        log.say(f"the preview was not written ({error}): make room")


def _write_row(
    setup: _Setup,
    state: State,
    log: Log,
    gates: Mapping[str, Tensor],
    rate: float,
    score: Score | None,
    plain: Score | None,
) -> None:
    """Write a row about the steps since the last one, which the meter then forgets.

    Waits for the device, and for the other processes.
    """
    seen = state.meter.read(setup.fabric)
    check_finite(seen.loss, state.step)
    state.totals.add(seen)
    log.write(
        make_row(
            seen,
            gates,
            step=state.step,
            epoch=state.step / setup.timetable.epoch_steps,
            images=state.step * setup.recipe.batch_size,
            seconds=state.totals.seconds,
            learning_rate=rate,
            held_out=score,
            plain=plain,
        )
    )
    state.meter = Meter.at_zero(setup.fabric.device)


def _signal_of_all(setup: _Setup, step: int, asked: Sequence[int]) -> int:
    """The signal to stop for, the same in every process; 0 for none.

    Several processes ask each other only where they wait for each other anyhow, at a row of the
    log.
    """
    if setup.fabric.world_size > 1 and not setup.timetable.logs(step):
        return 0
    return int(largest_of_all(setup.fabric, max(asked, default=0)))
