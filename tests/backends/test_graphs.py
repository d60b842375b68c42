from pathlib import Path

import numpy as np
import pytest
import torch

from gsop.backends.base import buckets
from gsop.backends.graphs import bucket_of
from gsop.backends.torch_cuda import TorchCuda
from gsop.store.store import load

IMAGES = list(np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_buckets_are_powers_of_two_and_the_largest(largest: int, sizes: list[int]) -> None:
    assert buckets(largest) == sizes


def test_a_batch_goes_into_the_smallest_bucket_that_holds_it() -> None:
    found = [bucket_of(size, buckets(6)) for size in range(1, 8)]
    assert found == [1, 2, 4, 4, 6, 6, None]


@pytest.mark.gpu
def test_a_graph_answers_as_its_operators_do(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    backend = TorchCuda(
        manifest, model, device=torch.device("cuda", 0), dtype=torch.float32, max_batch=6
    )
    sizes = (1, 3, 6, 2)
    before = [backend.result(backend.submit(IMAGES[:n])).copy() for n in sizes]
    backend.warm_up()
    after = [backend.result(backend.submit(IMAGES[:n])).copy() for n in sizes]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
