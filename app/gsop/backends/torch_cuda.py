"""torch on a CUDA device: two batches in flight, a graph for each size of batch."""

import torch
from torch import Tensor

from gsop.backends.graphs import Graphs
from gsop.backends.torch_device import Staged, TorchBackend, within_memory
from gsop.model.resnet import GSoPResNet


class TorchCuda(TorchBackend):
    """One model on a GPU: one batch is copied and launched while another is computed."""

    depth = 2

    def _host_memory(self, memory: Tensor) -> Tensor:
        return memory.pin_memory()

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        torch.cuda.set_device(self._device)
        self._model = self._answering(network, dtype)
        self._graphs: Graphs | None = None
        self._arrived = torch.empty_like(self._images, device=self._device)
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def _compute(self, staged: Tensor, values: Tensor, turn: int) -> Staged:
        # Images arrive on a stream of their own, while the batch before is computed. Their place is
        # free: at most `depth` batches are unfinished, and each has its own.
        images = self._arrived[turn, : len(staged)]
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            images.copy_(staged, non_blocking=True)
        compute.wait_stream(self._copies)
        answers = self._graphs.run(images) if self._graphs else None
        values.copy_(self._model(images) if answers is None else answers, non_blocking=True)
        finished = torch.cuda.Event()  # type: ignore[no-untyped-call]  # as above
        finished.record(compute)
        return Staged(values, finished)

    def warm_up(self) -> None:
        """See :meth:`Backend.warm_up`; the graphs are recorded last."""
        self._graphs = None
        super().warm_up()
        self._graphs = within_memory(
            lambda: Graphs(self._model, torch.zeros_like(self._arrived[0, : self.max_batch]))
        )

    def shrink(self, most: int) -> None:
        """See :meth:`Backend.shrink`."""
        super().shrink(most)
        torch.cuda.empty_cache()
