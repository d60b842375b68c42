"""torch on a CUDA device: two batches in flight, a graph for each size of batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsop.backends.base import Pixels, buckets
from gsop.backends.device_tally import DeviceTally
from gsop.backends.fusing import fuse
from gsop.backends.graphs import Graphs
from gsop.backends.pinned import Pinned
from gsop.backends.torch_device import Staged, TorchBackend, compute_exactly, within_memory
from gsop.gates.tally import ClassTally
from gsop.images.planes import bundle_bytes, load_library
from gsop.model.resnet import GSoPResNet


class TorchCuda(TorchBackend):
    """One model on a GPU: one batch is copied and launched while another is computed.

    Whatever the process's current device is, all that is done here is done on the backend's own: a
    stream, an event or a graph of another device would order nothing, and its answers were those of
    an earlier batch.
    """

    depth = 2
    computes_here = False
    _compiler = "inductor"

    def _take_device(self) -> None:
        torch.cuda.set_device(self._device)  # before anything opens a context on another one
        compute_exactly()
        torch.backends.cudnn.benchmark = self._options.search == "measured"
        self.hardware = torch.cuda.get_device_name(self._device)

    def _host_memory(self, memory: Tensor) -> Tensor:
        return memory.pin_memory()

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        model = self._answering(network, dtype)
        fuse(model, self._options, self._gated_sum)
        self._model = self._compiled(model) if self._options.convolutions == "compiled" else model
        self._graphs: Graphs | None = None
        self._bundles: Tensor | None = None
        self._slots: Pinned | None = None
        self._tally: ClassTally | None = None
        if self._options.sums == "device":
            layout = self.manifest.answer
            self._tally = DeviceTally(layout.classes, layout.gate_size, self._device)
        self._arrived = torch.empty_like(self._images, device=self._device)
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def expect_bundles(self) -> None:
        """See :meth:`Backend.expect_bundles`."""
        load_library()  # decoders need it: better said at the start than to each client
        size = bundle_bytes(self.manifest.input)
        shape = (self.depth, self.max_batch, size)
        self._bundles = self._host_memory(torch.zeros(shape, dtype=torch.uint8))
        self._bundles_there = torch.zeros_like(self._bundles, device=self._device)

    def reach(self, memory: Pixels) -> None:
        """See :meth:`Backend.reach`."""
        if self._options.arena == "pinned":
            with torch.cuda.device(self._device):
                self._slots = Pinned.of(memory)

    def _gathered(self, images: Sequence[Pixels], turn: int) -> Sequence[Tensor]:
        found = None if self._slots is None else self._slots.find(images)
        if found is not None:
            return found
        if images[0].ndim == 1 and self._bundles is not None:
            staged = self._bundles[turn, : len(images)]
            np.stack(images, out=staged.numpy())
            return (staged,)
        return super()._gathered(images, turn)

    def _compute(self, staged: Sequence[Tensor], values: Tensor, turn: int) -> Staged:
        # Images arrive on a stream of their own, while the batch before is computed. Their place is
        # free: at most `depth` batches are unfinished, and each has its own.
        with torch.cuda.device(self._device):
            images = self._arrived[turn, : len(values)]
            are_bundles = staged[0].ndim == 2
            arriving = self._bundles_there[turn, : len(values)] if are_bundles else images
            compute = torch.cuda.current_stream()
            with torch.cuda.stream(self._copies):
                at = 0
                for piece in staged:
                    arriving[at : at + len(piece)].copy_(piece, non_blocking=True)
                    at += len(piece)
            compute.wait_stream(self._copies)
            if are_bundles:
                self._fit_bundles(arriving, images)
            answers = self._graphs.run(images) if self._graphs else None
            values.copy_(self._model(images) if answers is None else answers, non_blocking=True)
            # Who waits for it sleeps: spinning would take a processor from those who decode.
            finished = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # as above
            finished.record(compute)
            return Staged(values, finished)

    def _compiled(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """What torch's compiler makes of it: anew for each size of batch, at warm-up."""
        most: Any = torch._dynamo.config
        most.recompile_limit = max(most.recompile_limit, self.max_batch)
        compiled: Callable[[Tensor], Tensor] = torch.compile(
            model, backend=self._compiler, fullgraph=True, dynamic=False
        )
        return compiled

    @staticmethod
    def _gated_sum(b: Tensor, gate: Tensor, shortcut: Tensor) -> Tensor:
        from gsop.backends.kernels import gated_sum  # it brings Triton, which few need

        return gated_sum(b, gate, shortcut)

    def tally(self) -> ClassTally:
        """See :meth:`Backend.tally`."""
        return super().tally() if self._tally is None else self._tally

    @staticmethod
    def _fit_bundles(bundles: Tensor, out: Tensor) -> None:
        from gsop.backends.kernels import fit_bundles  # as above

        fit_bundles(bundles, out)

    def _settle(self) -> None:
        # What was copied of the batch that failed may still be under way, from and to the buffers
        # that the next one takes.
        self._copies.synchronize()

    def wait(self, pending: Staged) -> None:
        """See :meth:`Backend.wait`."""
        assert pending.finished is not None  # noqa: S101  # _compute recorded it
        pending.finished.synchronize()

    def warm_up(self) -> None:
        """See :meth:`Backend.warm_up`; the graphs are recorded last."""
        self._graphs = None
        super().warm_up()
        self._graphs = within_memory(self._record)
        if self._options.convolutions == "compiled":
            _end_compilers()
        if self._bundles is not None:
            # The kernel is compiled by programs, which an engine that serves may not start; and
            # anew for memory that is aligned otherwise, so for each batch in flight.
            for _ in range(self.depth):
                self.result(self.submit([np.zeros(self._bundles.shape[2], np.uint8)]))

    @torch.inference_mode()
    def _record(self) -> Graphs:
        images = torch.zeros_like(self._arrived[0, : self.max_batch])
        sizes = fine_sizes if self._options.sizes == "fine" else buckets
        return Graphs(self._model, images, sizes(self.max_batch))

    def shrink(self, most: int) -> None:
        """See :meth:`Backend.shrink`."""
        super().shrink(most)
        if self._graphs is not None:
            self._graphs.forget_above(most)
        torch.cuda.empty_cache()


def _end_compilers() -> None:
    """Of the compiler of torch: it keeps a process a core for what might come, and nothing does."""
    from torch._inductor.async_compile import shutdown_compile_workers  # it brings the compiler

    shutdown_compile_workers()


def fine_sizes(max_batch: int) -> list[int]:
    """Sizes that waste little, ascending: 1, 2, 4, in steps of 4 to 16, and of 8 above."""
    sizes = {1, 2, *range(4, 17, 4), *range(24, max_batch, 8)}
    return [*sorted(size for size in sizes if size < max_batch), max_batch]
