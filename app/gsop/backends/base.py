"""A model on a device: uint8 images in, probabilities and gates out."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsop.backends.graphs import Graphs, buckets
from gsop.backends.packing import can_pack, pack_convolutions
from gsop.errors import ConfigError
from gsop.model.folding import fold_batch_norms
from gsop.model.resnet import GSoPResNet
from gsop.settings import Precision
from gsop.store.manifest import Manifest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TINY, BELOW_ONE = torch.finfo(torch.float32).tiny, 1 - 2**-24
"""The least and the greatest float32 that are surely inside of (0, 1)."""

DEFAULT_MAX_BATCH = {"cuda": 64, "cpu": 16}


def find_device(name: str) -> torch.device:
    """The device that ``GSOP_DEVICE`` names; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: if this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"GSOP_DEVICE names {name!r}, which is no device: use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type not in DEFAULT_MAX_BATCH:
        raise ConfigError(f"GSOP_DEVICE names {name!r}: only the CPU and CUDA devices are served")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"GSOP_DEVICE names {name!r}, but {torch.cuda.device_count()} CUDA devices are "
            "visible: pass the GPU through (docker run --gpus all), or set GSOP_DEVICE=cpu"
        )
    return device


def find_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that the network computes in.

    Raises:
        ConfigError: if the device has no fast path for it.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("GSOP_PRECISION=float16 is for CUDA: use float32 or bfloat16 on the CPU")
    return DTYPES[precision]


@dataclass(frozen=True)
class Pending:
    """A batch that the device is computing.

    Attributes:
        values: ``(N, classes + G)`` float32 on the host, valid once ``finished`` is.
        finished: the device's mark behind the batch; ``None`` on the CPU, where it is done.
    """

    values: Tensor
    finished: torch.cuda.Event | None

    def result(self) -> npt.NDArray[np.float32]:
        """Wait for the device, then: probabilities and gates, ``(N, classes + G)``.

        The array is overwritten by the second batch after this one.
        """
        if self.finished is not None:
            self.finished.synchronize()
        return np.asarray(self.values.numpy())


class Answering(nn.Module):
    """All that is computed for a batch: pixels in, probabilities and gates out, in one tensor.

    It makes the network its own: batch norms are folded into their convolutions.

    Args:
        manifest: of the model version.
        network: the model, whose weights are changed.
        dtype: that the network computes in; what needs float32 keeps it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, manifest: Manifest, network: GSoPResNet, dtype: torch.dtype) -> None:
        super().__init__()
        fold_batch_norms(network.eval())
        self.network = network.requires_grad_(False).to(dtype)
        self.dtype = dtype
        self.gates = [gate.name for gate in manifest.gates]
        mean, std = torch.tensor(manifest.input.mean), torch.tensor(manifest.input.std)
        # (pixel / 255 - mean) / std as one multiply-add
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:  # (N, H, W, 3) uint8
        """Probabilities and gates, ``(N, classes + G)`` float32."""
        pixels = images.permute(0, 3, 1, 2)  # (N, 3, H, W), channels last
        normalised = torch.addcmul(self.shift, pixels.float(), self.scale)
        output = self.network(normalised.to(self.dtype))
        probabilities = output.logits.float().softmax(dim=1)
        gates = [output.gates[name].float().flatten(1) for name in self.gates]
        # A sigmoid lies in (0, 1); rounding to float32 must not put it on the border.
        inside = torch.cat(gates, dim=1).clamp(TINY, BELOW_ONE) if gates else probabilities[:, :0]
        return torch.cat([probabilities, inside], dim=1)


class Predictor:
    """One model on one device, computed by torch.

    It makes the model its own (see :class:`Answering`). A subclass that computes otherwise has its
    own :meth:`prepare` and :meth:`compute`.

    Up to ``depth`` batches can be in flight: each has its own staging memory on the host, pinned
    where the device is a GPU.

    Args:
        manifest: of the model version.
        model: exactly that version, as it was loaded.
        device: where to compute.
        dtype: that the network computes in.
        max_batch: most images in a batch.
        cache: folder where a subclass may keep what it prepares, for the next start.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: GSoPResNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_batch: int,
        cache: Path | None = None,
    ) -> None:
        self.manifest = manifest
        self.cache = cache
        self.device = device
        self.max_batch = max_batch
        self.depth = 2 if device.type == "cuda" else 1
        spec = manifest.input
        pinned = device.type == "cuda"
        self._images = torch.empty(
            (self.depth, max_batch, spec.height, spec.width, 3), dtype=torch.uint8
        )
        self._values = torch.empty(
            (self.depth, max_batch, manifest.config.num_classes + manifest.gate_size)
        )
        if pinned:
            self._images, self._values = self._images.pin_memory(), self._values.pin_memory()
        self._turn = 0
        self._graphs: Graphs | None = None
        self.prepare(Answering(manifest, model, dtype))

    def prepare(self, answering: Answering) -> None:
        """Bring what is to be computed onto the device. Called once, last."""
        moved = answering.to(self.device)
        self._answering = moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        if self.device.type == "cpu" and can_pack():
            pack_convolutions(self._answering, self._images[0, :1].zero_())
        if self.device.type == "cuda":
            self._arrived = torch.empty_like(self._images, device=self.device)
            self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # untyped, too

    def compute(self, staged: Tensor, values: Tensor) -> None:
        """From images on the host ``(N, H, W, 3)`` to ``values`` on the host ``(N, classes + G)``.

        It may return before the device is done.
        """
        if self.device.type == "cpu":
            values.copy_(self._answering(staged))
            return
        # Images arrive on a stream of their own, while the batch before is computed. Their place is
        # free: at most `depth` batches are unfinished, and each has its own.
        images = self._arrived[self._turn, : len(staged)]
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            images.copy_(staged, non_blocking=True)
        compute.wait_stream(self._copies)
        answers = self._graphs.run(images) if self._graphs else None
        values.copy_(self._answering(images) if answers is None else answers, non_blocking=True)

    def submit(self, images: Sequence[npt.NDArray[np.uint8]]) -> Pending:
        """Begin a batch of 1 to ``max_batch`` images, each ``(H, W, 3)``.

        At most ``depth`` batches may be unfinished at once.
        """
        turn = self._turn = (self._turn + 1) % self.depth
        staged = self._images[turn, : len(images)]
        np.stack(images, out=staged.numpy())
        values = self._values[turn, : len(images)]
        with torch.inference_mode():
            self.compute(staged, values)
        if self.device.type != "cuda":
            return Pending(values, None)
        finished = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        finished.record()
        return Pending(values, finished)

    def warm_up(self) -> None:
        """Run every batch size that is likely, so that no request pays for a first time.

        Raises:
            RuntimeError: whatever the device raises; a service that cannot do this is not ready.
        """
        spec = self.manifest.input
        image = np.zeros((spec.height, spec.width, 3), np.uint8)
        self._graphs = None
        for size in reversed(buckets(self.max_batch)):  # the largest first: memory is reserved once
            self.submit([image] * size).result()
        if self.device.type == "cuda":
            with torch.inference_mode():
                self._graphs = Graphs(
                    self._answering, torch.zeros_like(self._arrived[0, : self.max_batch])
                )


BACKENDS = {
    "torch": "gsop.backends.base:Predictor",
    "openvino": "gsop.backends.openvino:OpenVINOPredictor",
}
"""The predictors that have a short name."""


def find_backend(name: str) -> type[Predictor]:
    """The class that ``GSOP_BACKEND`` names: it is made and used as :class:`Predictor` is.

    Raises:
        ConfigError: if there is no such class, or a package that it needs is not installed.
    """
    module, _, attribute = BACKENDS.get(name, name).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"GSOP_BACKEND names {name!r}, which cannot be imported ({error}): "
            "use torch, openvino, or module:Class of a predictor that Python finds"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Predictor)):
        raise ConfigError(f"GSOP_BACKEND names {name!r}, which is no subclass of Predictor")
    return found
