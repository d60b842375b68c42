"""CUDA graphs: a batch's hundreds of kernels launched as one. One graph a size of batch.

A small batch on a fast GPU is over before Python has launched it. A graph is recorded once, at
warm-up, and replayed with the images in the same place. A batch is run in the smallest size that
holds it, and the rest of the rows is thrown away.

All graphs share one pool of memory, so a replay may write where another graph keeps what it is
computing. That is safe in any order of replays for one reason: all of them run on one stream, and
what a replay has answered is copied out on that stream before the next one begins.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def bucket_of(size: int, sizes: Sequence[int]) -> int | None:
    """The smallest of ``sizes`` that holds ``size`` images; ``None`` if none does."""
    return min((bucket for bucket in sizes if bucket >= size), default=None)


class Graphs:
    """One function of a batch, recorded for several sizes of it, on the device of its images.

    Args:
        compute: images on the device ``(N, H, W, 3)`` to answers ``(N, …)``.
        images: on the device, as many as the largest batch.
        sizes: of the batches that are recorded.

    Raises:
        RuntimeError: if a graph computes nothing when it is replayed.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], images: Tensor, sizes: Sequence[int]
    ) -> None:
        self._images = images
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        with torch.cuda.device(images.device):
            current = torch.cuda.current_stream()
            # One for all sizes: for each stream that multiplied matrices, cuBLAS keeps a workspace.
            stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            pool: Any = torch.cuda.graph_pool_handle()
            # Entered once more: torch does not leave a recording's stream if the recording fails.
            with torch.cuda.stream(current):
                for size in sorted(sizes, reverse=True):  # later ones fit into the memory
                    self._recorded[size] = self._record(compute, size, stream, pool)

    def _record(
        self, compute: Callable[[Tensor], Tensor], size: int, stream: torch.cuda.Stream, pool: Any
    ) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        # What libraries do at a first time (plans, workspaces) must not be recorded.
        with torch.cuda.stream(stream):
            for _ in range(2):
                expected = compute(self._images[:size])
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            answers = compute(self._images[:size])
        # An empty recording replays without an error, and its answers are whatever was there.
        answers.fill_(float("nan"))
        graph.replay()
        if not torch.equal(answers.isnan(), expected.isnan()):
            raise RuntimeError(f"the graph recorded for batches of {size} computes nothing")
        return graph, answers

    @property
    def sizes(self) -> list[int]:
        """Of the batches that are recorded, ascending."""
        return sorted(self._recorded)

    def run(self, images: Tensor) -> Tensor | None:
        """Answers of ``images``, valid until the next run; ``None`` if no size holds them."""
        bucket = bucket_of(len(images), self.sizes)
        if bucket is None:
            return None
        graph, answers = self._recorded[bucket]
        self._images[: len(images)].copy_(images)
        graph.replay()
        return answers[: len(images)]

    def forget_above(self, most: int) -> None:
        """Give back what only batches of more than ``most`` images needed."""
        largest = bucket_of(most, self.sizes)
        for size in [size for size in self.sizes if largest is not None and size > largest]:
            del self._recorded[size]
