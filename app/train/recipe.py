"""How a model is trained, as data; a recipe and a seed make a model again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.images import InputSpec
from app.model.config import GSoPResNetConfig
from app.train.augment import Augmentation
from app.train.data import DataSet
from app.train.digits import Digits


@dataclass(frozen=True)
class Recipe:
    """One way to train one model.

    Attributes:
        name: what it is called for.
        config: the network.
        input: how the network's images are prepared, in training and in service.
        data: makes the data set.
        steps: batches to learn from.
        batch_size: images a batch.
        learning_rate: AdamW's, at its peak.
        warmup_steps: over which the learning rate rises from 0.
        weight_decay: AdamW's, of the matrices and kernels only.
        label_smoothing: of the cross-entropy.
        ema_decay: of the exponential moving average of the weights, which is what is published.
    """

    name: str
    config: GSoPResNetConfig
    input: InputSpec
    data: Callable[[], DataSet]
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    label_smoothing: float
    ema_decay: float

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 0 to ``steps - 1``: a linear rise, then half a cosine to 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


DIGITS = Recipe(
    name="digits",
    config=GSoPResNetConfig(
        depth=18, stem="cifar", base_width=16, reduced_dim=16, num_classes=10, last_stride=2
    ),
    input=InputSpec(height=32, width=32, resize=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    data=lambda: Digits(size=32, augmentation=Augmentation()),
    steps=1000,
    batch_size=64,
    learning_rate=5e-3,
    warmup_steps=100,
    weight_decay=0.05,
    label_smoothing=0.1,
    ema_decay=0.995,
)
"""The default model: minutes on two cores."""

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (DIGITS,)}
"""The recipes by name."""
