"""A data set that is learned in seconds: dark images and light ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from app.model.config import GSoPResNetConfig
from app.train.data import Sample
from app.train.recipe import DIGITS, Recipe
from app.train.variants import encode_png


class DarkAndLight:
    """Class 0 is darker than the middle, class 1 lighter; a :class:`app.train.data.DataSet`."""

    labels: tuple[str, ...] = ("dark", "light")
    source: Mapping[str, str] = {"dataset": "dark and light"}
    how: str = "as the test says"

    def batches(self, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            labels = torch.randint(0, 2, (batch_size,), generator=generator)
            grey = torch.randint(0, 100, (batch_size,), generator=generator) + 150 * labels
            yield grey.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 32, 32, 3), labels

    def held_out(self) -> Sequence[Sample]:
        return [
            Sample(encode_png(np.full((8, 8), grey, np.uint8)), int(grey > 127))
            for grey in (20, 40, 60, 180, 200, 220)
        ]

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        return {"swapped": [Sample(image, 1 - label) for image, label in self.held_out()]}


@pytest.fixture
def recipe() -> Recipe:
    """Learns :class:`DarkAndLight` in some thirty steps."""
    return replace(
        DIGITS,
        name="dark-and-light",
        config=GSoPResNetConfig(
            depth=18, stem="cifar", base_width=4, reduced_dim=4, num_classes=2, last_stride=2
        ),
        data=DarkAndLight,
        steps=30,
        batch_size=16,
        warmup_steps=3,
        ema_decay=0.8,
    )
