"""The training loop.

::

    data ─ loader ─ parts ─ forward ─ loss ─ backward ─ step ─ average ┬─ log
             └ workers: decode, augment                                ├─ held-out images
                                                                       └─ checkpoint

All that a step does follows from the recipe and the step's number, so a run that goes on from a
checkpoint ends in the weights of one that was never stopped.
"""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.train import checkpoint
from gsop.train.data.dataset import DataSet
from gsop.train.data.loader import Part, check_shares, loader, steps_per_epoch
from gsop.train.fabric import largest_of_all, make_fabric, union_of_all
from gsop.train.log import Log
from gsop.train.optimizer import make_optimizer, set_learning_rate
from gsop.train.plots import plot_run
from gsop.train.recipe import Recipe
from gsop.train.run import DataInfo, Result, Run
from gsop.train.signals import noted_signals
from gsop.train.step import take_step, update_average
from gsop.train.sync_norm import synchronise
from gsop.train.watch import (
    Meter,
    Totals,
    check_finite,
    columns,
    make_row,
    note_broken,
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


def train(
    recipe: Recipe,
    folder: Path,
    *,
    initial: GSoPResNet | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
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

    Returns:
        What the run came to, as in its ``result.json``.

    Raises:
        ConfigError: if the recipe, the data, the device or the folder do not work.
        SetupError: if the training diverges, too many images cannot be read, or the weights
            cannot be written.
        Stopped: on SIGTERM or SIGINT, after a checkpoint.
    """
    data = recipe.open_data()
    recipe = recipe.for_classes(len(data.labels))
    fabric = make_fabric(recipe, device)
    # Before there is a folder, which the next attempt would find in its way.
    steps_per_epoch(data, recipe.batch_size)
    check_shares(recipe.batch_size, recipe.accumulate, fabric.world_size)
    run = _open_run(fabric, recipe, folder, data, resume=resume)
    if run.finished:
        return run.result
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        training = _Training(fabric, recipe, data, run, initial)
        with noted_signals() as asked, training.open_log(progress) as log:
            training.go_on(log, asked)
            return training.finish(log)


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


class _Training:
    """One run, in one process: everything that a checkpoint holds, and what a step does to it."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        data: DataSet,
        run: Run,
        initial: GSoPResNet | None,
    ) -> None:
        if recipe.backbone is not None and initial is None:
            raise ConfigError(f"the recipe starts from {recipe.backbone!r}, which was not loaded")
        self.fabric = fabric
        self.recipe = recipe
        self.data = data
        self.run = run
        self.held_out = data.held_out()
        self.epoch_steps = steps_per_epoch(data, recipe.batch_size)
        self.total_steps = recipe.schedule.total_steps(self.epoch_steps)
        self.validate_steps = recipe.schedule.in_steps(
            recipe.schedule.validate_every, self.epoch_steps
        )
        self.totals = Totals()
        self.meter = Meter.at_zero(fabric.device)
        torch.manual_seed(recipe.seed)
        self.model = GSoPResNet(recipe.config) if initial is None else initial
        self._set_up(checkpoint.load(run.checkpoints))

    def _set_up(self, found: tuple[int, dict[str, Any]] | None) -> None:
        """Put the network on the device, as it begins or as a checkpoint has it."""
        recipe, device = self.recipe, self.fabric.device
        if recipe.sync_batch_norm and self.fabric.world_size > 1:
            synchronise(self.model, device)
        if found is not None:
            self.model.load_state_dict(found[1]["model"])
        self.model.train().to(device)
        if recipe.channels_last is True or (
            recipe.channels_last == "auto" and device.type == "cuda"
        ):
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval() if recipe.ema_decay else None
        self.forward, self.optimizer = self.fabric.setup(
            cast(nn.Module, torch.compile(self.model)) if recipe.compile else self.model,
            make_optimizer(self.model, recipe.optimizer),
        )
        if found is not None:
            self._restore(found[1])

    def open_log(self, progress: bool) -> Log:
        """The log, which goes on after the last step that was done."""
        return Log(
            self.run.folder if self.fabric.is_global_zero else None,
            columns(self.recipe),
            step=self.totals.step,
            total=self.total_steps,
            title=self.recipe.name,
            progress=progress,
        )

    # --- the loop ------------------------------------------------------------------------------

    def go_on(self, log: Log, asked: list[int]) -> None:
        """Train to the last step, or until a signal is in ``asked``."""
        recipe, totals = self.recipe, self.totals
        loaded = iter(
            loader(
                self.data,
                batch_size=recipe.batch_size,
                seed=recipe.seed,
                first_step=totals.step,
                steps=self.total_steps,
                accumulate=recipe.accumulate,
                rank=self.fabric.global_rank,
                world=self.fabric.world_size,
                workers=recipe.workers,
                pin_memory=self.fabric.device.type == "cuda",
            )
        )
        clock = time.perf_counter()
        while totals.step < self.total_steps:
            rate = set_learning_rate(self.optimizer, recipe, totals.step, self.epoch_steps)
            batch = self._next_batch(loaded, log, asked)
            note_broken(
                batch,
                totals.broken,
                images=len(self.data),
                max_broken=recipe.max_broken,
                say=log.say,
            )
            gates = take_step(self.fabric, recipe, self.forward, self.optimizer, batch, self.meter)
            totals.step += 1
            if self.average is not None:
                update_average(self.average, self.model, decay=recipe.ema_decay, step=totals.step)
            log.advance(totals.step)
            last = totals.step == self.total_steps
            if self.validate_steps and totals.step % self.validate_steps == 0 and not last:
                totals.top1 = self._held_out_top1()
                validated: float | None = totals.top1
            else:
                validated = None
            clock, since = time.perf_counter(), clock
            self.meter.seconds += clock - since
            if totals.step % recipe.log_every == 0 or last or validated is not None:
                self._write_row(log, rate, gates, validated)
            stop = self._agree(asked)
            if (
                stop
                or last
                or totals.step % recipe.checkpoint_every == 0
                or totals.step % self.epoch_steps == 0
            ):
                self._save(log)
            if stop and not last:
                raise Stopped(stop, totals.step)

    def _next_batch(self, loaded: Iterator[Part], log: Log, asked: list[int]) -> list[Part]:
        """This process's parts of the next step.

        Ctrl-C, and many a supervisor's SIGTERM, reach the loading processes too, which die of it:
        then what has been done so far is kept here.
        """
        began = time.perf_counter()
        try:
            batch = [next(loaded) for _ in range(self.recipe.accumulate)]
        except (RuntimeError, OSError, EOFError):
            if not asked:
                raise
            self._save(log)
            raise Stopped(asked[0], self.totals.step) from None
        self.meter.waiting += time.perf_counter() - began
        return batch

    def _held_out_top1(self) -> float:
        """Of the network that would be kept, over all processes."""
        found = score_held_out(self.fabric, self._kept, self.recipe.input, self.held_out)
        self.totals.broken.update(found.broken)
        return found.top1

    @property
    def _kept(self) -> GSoPResNet:
        """The network whose weights the run ends with."""
        return self.model if self.average is None else self.average

    # --- what is seen and kept -----------------------------------------------------------------

    def _write_row(
        self, log: Log, rate: float, gates: dict[str, Tensor], validated: float | None
    ) -> None:
        """A row about the steps since the last one; of the gates, this process's last images."""
        totals = self.totals
        seen = self.meter.read(self.fabric)
        check_finite(seen.loss, totals.step)
        totals.add(seen)
        log.write(
            make_row(
                seen,
                gates,
                step=totals.step,
                epoch=totals.step / self.epoch_steps,
                images=totals.step * self.recipe.batch_size,
                seconds=totals.seconds,
                learning_rate=rate,
                top1=validated,
            )
        )
        self.meter = Meter.at_zero(self.fabric.device)

    def _save(self, log: Log) -> None:
        """Write a checkpoint; a disk that refuses it costs no more than that checkpoint."""
        if not self.fabric.is_global_zero:
            return
        check_finite(float(self.meter.loss), self.totals.step)
        cuda = self.fabric.device.type == "cuda"
        state = {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "totals": vars(self.totals) | {"broken": sorted(self.totals.broken)},
            "meter": vars(self.meter),
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.fabric.device) if cuda else None,
            },
        }
        try:
            checkpoint.save(self.run.checkpoints, self.totals.step, state)
        except OSError as error:
            log.say(
                f"the checkpoint after step {self.totals.step} was not written ({error}): make "
                "room; the training goes on, and the older checkpoints are kept"
            )

    def _restore(self, state: dict[str, Any]) -> None:
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.totals = Totals(**state["totals"] | {"broken": set(state["totals"]["broken"])})
        self.meter = Meter(**state["meter"])
        self.meter.loss = self.meter.loss.to(self.fabric.device)
        self.meter.correct = self.meter.correct.to(self.fabric.device)
        torch.set_rng_state(state["random"]["cpu"])
        if self.fabric.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.fabric.device)

    def finish(self, log: Log) -> Result:
        """Look at the held-out images, and keep weights, result and pictures."""
        began = time.perf_counter()
        totals = self.totals
        totals.top1 = self._held_out_top1()
        totals.seconds += time.perf_counter() - began
        images = totals.step * self.recipe.batch_size
        result = Result(
            steps=totals.step,
            images=images,
            seconds=totals.seconds,
            images_per_second=images / totals.seconds,
            waiting=totals.waiting / totals.seconds,
            loss=totals.loss,
            top1=totals.top1,
            held_out=len(self.held_out),
            broken=tuple(sorted(union_of_all(self.fabric, totals.broken))),
            processes=self.fabric.world_size,
            device=self.fabric.device.type,
        )
        if self.fabric.is_global_zero:
            self.run.finish(self._kept.state_dict(), result)
            try:
                plot_run(self.run.folder)
            except OSError as error:
                log.say(f"the pictures were not written ({error}): make room; log.csv is there")
            if result.broken:
                log.say(f"{len(result.broken)} images could not be read; result.json names them")
        self.fabric.barrier()
        return result

    # --- small parts ---------------------------------------------------------------------------

    def _agree(self, asked: list[int]) -> int:
        """The signal to stop for, the same in every process; 0 for none.

        Several processes ask each other only where they wait for each other anyhow, at a row of
        the log.
        """
        if self.fabric.world_size > 1 and self.totals.step % self.recipe.log_every:
            return 0
        return int(largest_of_all(self.fabric, max(asked, default=0)))
