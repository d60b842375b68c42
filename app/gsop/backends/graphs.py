"""CUDA graphs: a batch's hundreds of kernels launched as one. One graph a size of batch.

A small batch on a fast GPU is over before Python has launched it. A graph is recorded once, at
warm-up, and replayed with the images in the same place. Sizes are powers of two and the largest; a
batch is run in the smallest that holds it, and the rest of the rows is thrown away.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsop.backends.base import buckets


def bucket_of(size: int, sizes: list[int]) -> int | None:
    """The smallest of ``sizes`` that holds ``size`` images; ``None`` if none does."""
    return min((bucket for bucket in sizes if bucket >= size), default=None)


class Graphs:
    """One function of a batch, recorded for every bucket. All of it runs on the current stream.

    Args:
        compute: images on the device ``(N, H, W, 3)`` to answers ``(N, …)``.
        images: on the device, as many as the largest batch.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._images = images
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        pool: Any = torch.cuda.graph_pool_handle()
        for size in sorted(buckets(len(images)), reverse=True):  # later ones fit into the memory
            self._recorded[size] = self._record(compute, size, pool)

    def _record(
        self, compute: Callable[[Tensor], Tensor], size: int, pool: Any
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # What libraries do at a first time (plans, workspaces) must not be recorded.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                compute(self._images[:size])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            answers = compute(self._images[:size])
        return graph, answers

    def run(self, images: Tensor) -> Tensor | None:
        """Answers of ``images``, valid until the next run; ``None`` if no bucket holds them."""
        bucket = bucket_of(len(images), list(self._recorded))
        if bucket is None:
            return None
        graph, answers = self._recorded[bucket]
        self._images[: len(images)].copy_(images)
        graph.replay()
        return answers[: len(images)]
