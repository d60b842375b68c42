"""How a model is trained, as data: a recipe and its data make the same run again.

A recipe is nothing but values: it is written beside the run that it made, read from a file, and
changed on the command line. :mod:`gsop.train.presets` holds the ones that come with the project.
"""

import math
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gsop.errors import ConfigError
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.train.data.dataset import DataSet
from gsop.train.data.open import open_data
from gsop.train.data.spec import AugmentSpec, BalanceSpec, DataSpec, Values

Role = Literal["backbone", "gates", "head"]
"""The parts of a network that may learn at rates of their own."""


BackbonePart = Literal["stem", "layer1", "layer2", "layer3", "layer4"]
"""The parts of a backbone, in their order."""


TrackerName = Literal["mlflow", "wandb"]
"""Who may be told of a run besides TensorBoard: MLflow, and Weights & Biases."""


class MixSpec(Values):
    """Batches whose images are mixed in pairs, and their labels with them.

    If both are above 0, each batch draws one of the two. Needs torchvision.

    Attributes:
        mixup: 0, or the parameter of the Beta distribution that says how much of two images is laid
            over each other (arXiv 1710.09412).
        cutmix: likewise, of how large a rectangle of one replaces the other's (arXiv 1905.04899).
    """

    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)


class OptimizerSpec(Values):
    """What turns gradients into steps.

    Attributes:
        kind: ``sgd`` with momentum, or ``adamw``.
        learning_rate: at its peak.
        momentum: SGD's; AdamW's are torch's own, 0.9 and 0.999.
        weight_decay: per unit of learning rate.
        decay_all: whether biases and the gains of normalisation decay too, as in the recipes of
            the first ResNets; else matrices and kernels only.
        backbone_scale: the backbone's learning rate as a share of the others': below 1 where it
            comes trained.
        stage_decay: the backbone's rate in each stage as a share of that in the next one: below 1
            the early stages, which see what all images have in common, change least.
        frozen: parts of the backbone that do not learn, of ``stem``, ``layer1`` to ``layer4``;
            their running statistics stay too. Gates in them learn.
        clip: largest L2 norm of all gradients together; ``None`` for no bound.
    """

    kind: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    decay_all: bool = False
    backbone_scale: float = Field(default=1.0, ge=0, le=1)
    stage_decay: float = Field(default=1.0, gt=0, le=1)
    frozen: tuple[BackbonePart, ...] = ()
    clip: float | None = Field(default=None, gt=0)


class Schedule(Values):
    """How long, and at which share of the peak learning rate.

    Attributes:
        epochs: length of the run in passes over the training images; or
        steps: its length in steps of the optimiser. The fields below count the same.
        warmup: over which the rate rises from 0 in a straight line.
        decay: ``cosine`` falls to 0 in half a wave, ``milestones`` by ``factor`` at each of them.
        milestones: when, for that.
        factor: by how much, for that.
        gate_warmup: over which the gates' own rate rises besides: they open slowly, while the
            rest of the network follows.
        validate_every: between two looks at the held-out images; 0 for one at the end only.
        patience: looks without a lower held-out loss after which the run ends early; 0 for never.
    """

    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    warmup: float = Field(default=0.0, ge=0)
    decay: Literal["cosine", "milestones"] = "cosine"
    milestones: tuple[float, ...] = ()
    factor: float = Field(default=0.1, gt=0, le=1)
    gate_warmup: float = Field(default=0.0, ge=0)
    validate_every: float = Field(default=1.0, ge=0)
    patience: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("set either epochs or steps, and leave the other null")
        length = self.epochs or self.steps or 0
        if self.warmup >= length:
            raise ValueError(f"a warmup of {self.warmup:g} leaves nothing of {length:g}")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        if self.patience and not self.validate_every:
            raise ValueError("patience counts looks at the held-out images: set validate_every")
        return self

    def in_steps(self, time: float, steps_per_epoch: int) -> int:
        """A time of this schedule in steps of the optimiser."""
        return round(time * (1 if self.epochs is None else steps_per_epoch))

    def total_steps(self, steps_per_epoch: int) -> int:
        """Length of the run in steps of the optimiser, at least 1."""
        return max(1, self.in_steps(self.epochs or self.steps or 0, steps_per_epoch))

    def share_at(self, step: int, steps_per_epoch: int, role: Role = "head") -> float:
        """The learning rate at ``step`` (from 0) as a share of its peak."""
        warmup = self.in_steps(self.warmup, steps_per_epoch)
        share = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if role == "gates" and (opening := self.in_steps(self.gate_warmup, steps_per_epoch)):
            share *= min(1.0, (step + 1) / opening)
        if step < warmup:
            return share
        if self.decay == "milestones":
            passed = sum(step >= self.in_steps(m, steps_per_epoch) for m in self.milestones)
            return share * self.factor**passed
        done = (step - warmup) / max(1, self.total_steps(steps_per_epoch) - warmup)
        return share * (1 + math.cos(math.pi * done)) / 2


class Recipe(Values):
    """One way to train one network on one data set.

    Attributes:
        name: what it is called for.
        config: the network; ``num_classes`` is the data's, whatever it says.
        input: how images are prepared, in training and in service.
        data: which images.
        augment: how training images stray from what lies on the disk.
        backbone: a trained backbone to start from: ``torchvision``, or the file of a ResNet's state
            dict, under torchvision's, timm's or transformers' names; ``None`` starts anew.
        batch_size: images an optimiser step, of all processes together.
        accumulate: parts that a step's images are computed in, one after the other; each part has
            batch statistics of its own.
        optimizer: what turns gradients into steps.
        schedule: how long, and at which learning rate.
        label_smoothing: of the cross-entropy.
        balance: what is done about classes with few images; nothing if nothing is set.
        mix: how the images of a batch are mixed; not at all if nothing is set.
        keep: the weights that the run ends with: those after the ``last`` step, or the ``best``:
            those with the least loss on held-out images, which are kept beside the last anyhow.
        ema_decay: of the exponential moving average of the weights, which is what is kept; 0 keeps
            the last weights themselves.
        precision: ``bfloat16`` computes mixed; ``auto`` is that on CUDA, and float32 on the CPU.
        channels_last: the convolutions' layout in memory; ``auto`` on CUDA only, as oneDNN 3.12
            (torch's on the CPU) writes past its workspace in the backward pass of some strided
            1×1 convolutions in that layout.
        compile: run the network through ``torch.compile``: minutes to start, then faster on CUDA.
        sync_batch_norm: with several processes, whether the batch statistics are those of all
            their images, as one process would compute them, or of each process's own.
        checkpoint_every: steps between two checkpoints; one more at the end of each epoch.
        log_every: steps between two rows of the log; each waits for the device.
        trackers: who is told of the run besides TensorBoard; see :mod:`gsop.train.trackers`.
        workers: processes that decode and augment, for each training process; -1 chooses.
        max_broken: the share of the images that may be unreadable before the run stops.
        seed: of the first weights, the order of the data and their augmentation.
    """

    name: str
    config: GSoPResNetConfig
    input: InputSpec
    data: DataSpec
    augment: AugmentSpec
    backbone: str | None = None
    batch_size: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: OptimizerSpec
    schedule: Schedule
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balance: BalanceSpec = BalanceSpec()
    mix: MixSpec = MixSpec()
    keep: Literal["last", "best"] = "last"
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    compile: bool = False
    sync_batch_norm: bool = True
    checkpoint_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=10, ge=1)
    trackers: tuple[TrackerName, ...] = ()
    workers: int = Field(default=-1, ge=-1)
    max_broken: float = Field(default=0.01, ge=0, le=1)
    seed: int = Field(default=0, ge=0)

    def open_data(self) -> DataSet:
        """The data set, opened.

        Raises:
            ConfigError: if the data are not at hand.
        """
        return open_data(self.data, self.input, self.augment)

    def for_classes(self, classes: int) -> "Recipe":
        """The same recipe with a network of so many classes."""
        return self.model_copy(update={"config": replace(self.config, num_classes=classes)})


def validate(values: dict[str, Any], what: str) -> Recipe:
    """A recipe from plain values.

    Raises:
        ConfigError: if they make none; it names ``what`` and each field.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ConfigError(f"{what} is no recipe: {reasons}") from error
