import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from gsop.errors import ConfigError
from gsop.images import Pixels
from gsop.processes.cage import missing
from gsop.train.data.dataset import BrokenImage, Classes, Sample
from gsop.train.data.loader import Part, loader, steps_per_epoch
from tests.escapes import WAYS, Outside
from tests.support import ROOT


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

    def training_labels(self) -> Classes:
        """One of five is of the second class."""
        return np.arange(self.images, dtype=np.int64) % 5 // 4

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


def test_classes_drawn_alike_are_shared_and_entered_alike() -> None:
    whole = parts(draw=1.0)
    numbers = joined(whole[:4]).labels  # of a pass
    assert int((numbers % 5 == 4).sum()) == pytest.approx(len(numbers) / 2, abs=3)
    repeated = Counter(tuple(pixel.flatten().tolist()) for pixel in joined(whole[:4]).pixels)
    assert max(repeated.values()) == 1  # each time it is varied anew
    assert same(parts(draw=1.0, first_step=7), whole[7:])
    ranks = [parts(draw=1.0, world=2, rank=rank) for rank in range(2)]
    assert same([joined(shared) for shared in zip(*ranks, strict=True)], whole)


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    assert same(parts(workers=2), parts())


class Escaping(Numbers):
    """Image ``i`` is one of whether way ``i`` out of the process that decodes it was open."""

    def __init__(self, outside: Outside) -> None:
        super().__init__(len(WAYS_OUT))
        self.outside = outside

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        try:
            WAYS[WAYS_OUT[index]](self.outside)
        except OSError:
            return np.zeros((1, 1, 3), np.uint8), index
        return np.ones((1, 1, 3), np.uint8), index


WAYS_OUT = (
    *("write_into_the_store", "remove_the_keys", "connect_by_tcp", "listen_by_tcp", "send_by_udp"),
    *("connect_by_an_abstract_socket", "fork", "trace_the_front", "signal_the_front"),
    "write_where_anybody_may",
)
"""The last is open: memory for the images is made there."""


def ways_found(outside: Outside) -> list[str]:
    """The ways that a worker found open."""
    data = Escaping(outside)
    (part,) = loader(data, batch_size=len(WAYS_OUT), seed=0, steps=1, workers=1)
    found = zip(part.labels.tolist(), part.pixels, strict=True)
    return sorted(WAYS_OUT[label] for label, pixel in found if pixel.any())


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"this system does not give {missing()}")
@pytest.mark.parametrize(
    ("mode", "open_ways"), [("auto", ["write_where_anybody_may"]), ("off", sorted(WAYS_OUT))]
)
def test_workers_write_and_reach_nothing(outside: Outside, mode: str, open_ways: list[str]) -> None:
    """In a process of its own, whose workers get this environment."""
    code = f"from {__name__} import *; print(ways_found(Outside(*{tuple(outside)})))"
    # Temporary files, which a worker may write, are made elsewhere than what is tried lies.
    environment = os.environ | {"GSOP_CAGE": mode, "TMPDIR": "/dev/shm"}  # noqa: S108
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(open_ways), done.stderr


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


class Hanging(Numbers):
    """Its images never come."""

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        threading.Event().wait(600)
        return super().training_image(index, seed)


def test_who_hands_nothing_over_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsop.train.data.loader.STALL_SECONDS", 1)
    loaded = iter(loader(Hanging(50), batch_size=12, seed=0, steps=2, workers=1))
    with pytest.raises(RuntimeError, match="nothing for 1 seconds"):
        next(loaded)


class Killed(Numbers):
    """Whoever loads them is killed, as where memory has run out."""

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        signal.raise_signal(signal.SIGKILL)
        return super().training_image(index, seed)


def test_a_worker_that_is_killed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsop.train.data.loader.LOOK_SECONDS", 1)
    loaded = iter(loader(Killed(50), batch_size=12, seed=0, steps=2, workers=1))
    with pytest.raises(RuntimeError, match=r"exited unexpectedly|killed by signal"):
        next(loaded)
