from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from gsop.errors import ConfigError
from gsop.images import Pixels
from gsop.train.data.dataset import BrokenImage, Sample
from gsop.train.data.loader import Part, loader, steps_per_epoch


class Numbers:
    """Image ``i`` is one pixel of ``i`` and its seed; some cannot be read."""

    labels: tuple[str, ...] = ("a",)
    source: Mapping[str, str] = {}
    how = ""
    fingerprint = "0"

    def __init__(self, images: int, broken: tuple[int, ...] = ()) -> None:
        self.images = images
        self.broken = broken

    def __len__(self) -> int:
        return self.images

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        if index in self.broken:
            raise BrokenImage(f"number {index}", "as the test says")
        return np.array([[[index, seed % 251, seed % 241]]], np.uint8), index

    def held_out(self) -> Sequence[Sample]:
        return []

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        return {}


def parts(images: int = 50, **options: object) -> list[Part]:
    known = {"batch_size": 12, "seed": 0, "steps": 12, "workers": 0}
    return list(loader(Numbers(images), **(known | options)))  # type: ignore[arg-type]


def same(one: Sequence[Part], other: Sequence[Part]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.labels, b.labels)
        for a, b in zip(one, other, strict=True)
    )


def joined(some: Sequence[Part]) -> Part:
    return Part(torch.cat([p.pixels for p in some]), torch.cat([p.labels for p in some]), ())


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    found = parts(images=48, steps=8)
    assert found[0].pixels.shape == (12, 1, 1, 3)
    assert found[0].pixels.dtype == torch.uint8
    assert found[0].labels.dtype == torch.int64
    first, second = (joined(found[i : i + 4]).labels.tolist() for i in (0, 4))
    assert Counter(first) == Counter(second) == Counter(range(48))
    assert first != second


def test_what_is_left_over_of_an_epoch_waits() -> None:
    assert steps_per_epoch(Numbers(50), 12) == 4
    assert all(len(part.labels) == 12 for part in parts(images=50))


def test_an_image_is_varied_anew_in_each_epoch() -> None:
    whole = joined(parts(images=48, steps=8))
    seeds = {(int(p[0, 0, 0]), int(p[0, 0, 1]), int(p[0, 0, 2])) for p in whole.pixels}
    assert len(seeds) > 90


def test_the_seed_decides() -> None:
    assert same(parts(seed=1), parts(seed=1))
    assert not same(parts(seed=1), parts(seed=2))


def test_one_may_enter_in_the_middle() -> None:
    assert same(parts(first_step=7), parts()[7:])


def test_processes_and_parts_share_each_step() -> None:
    whole = parts(steps=5)
    ranks = [parts(steps=5, accumulate=3, world=2, rank=rank) for rank in range(2)]
    for step, batch in enumerate(whole):
        shared = [ranks[rank][3 * step + number] for number in range(3) for rank in range(2)]
        assert all(len(part.labels) == 2 for part in shared)
        assert same([joined(shared)], [batch])


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    assert same(parts(workers=2), parts())


def test_a_broken_image_gives_way_to_the_next_and_is_named() -> None:
    data = Numbers(12, broken=(4, 5))
    (part,) = loader(data, batch_size=12, seed=0, steps=1, workers=0)
    assert Counter(part.labels.tolist()) == Counter(range(12)) - Counter([4, 5]) + Counter([6, 6])
    assert Counter(part.broken) == {"number 4": 1, "number 5": 2}


def test_nothing_but_broken_images_is_an_error() -> None:
    data = Numbers(12, broken=tuple(range(12)))
    with pytest.raises(ConfigError, match="12 images in a row cannot be read, the first number"):
        list(loader(data, batch_size=12, seed=0, steps=1, workers=0))


def test_what_cannot_be_shared_out_says_so() -> None:
    with pytest.raises(ConfigError, match="make batch_size a multiple of 8"):
        parts(world=4, accumulate=2)
    with pytest.raises(ConfigError, match="a batch of 12 is more than the 11 images"):
        parts(images=11)
