"""``GSOP_BACKEND=torch``: which device and number type it is, and what they have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsop.backends.answering import Answering, load_expected
from gsop.backends.base import Backend, OutOfMemory, Pixels, Place, Values
from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.settings import Precision
from gsop.store.manifest import Manifest

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

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


def name_of(dtype: torch.dtype) -> str:
    """``float32`` and its like."""
    return str(dtype).removeprefix("torch.")


def within_memory(compute: Callable[[], T]) -> T:
    """What ``compute`` returns, without gradients.

    Raises:
        OutOfMemory: if torch says so; outside of its exception, which holds the batch's tensors.
    """
    try:
        with torch.inference_mode():
            return compute()
    except torch.OutOfMemoryError as error:
        reason = str(error)
    raise OutOfMemory(reason)


class Staged(NamedTuple):
    """A batch that the device is computing.

    Attributes:
        values: ``(N, width)`` float32 on the host, valid once ``finished`` is.
        finished: the device's mark behind the batch; ``None`` where it is done already.
    """

    values: Tensor
    finished: "torch.cuda.Event | None" = None


class TorchBackend(Backend[Staged]):
    """One model on one device, computed by torch. A subclass is one kind of device.

    Each of the batches in flight has staging memory on the host of its own.

    Args:
        manifest: of the model version.
        network: exactly that version, which becomes the backend's own.
        device: where to compute.
        dtype: that the network computes in.
        max_batch: most images in a batch.
        threads: of a forward on the CPU; 0: what suits.
    """

    def __init__(
        self,
        manifest: Manifest,
        network: GSoPResNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_batch: int,
        threads: int = 0,
    ) -> None:
        super().__init__(
            manifest, device=str(device), precision=name_of(dtype), max_batch=max_batch
        )
        self._device = device
        spec = manifest.input
        shape = (self.depth, max_batch, spec.height, spec.width, 3)
        self._images = self._host_memory(torch.empty(shape, dtype=torch.uint8))
        self._values = self._host_memory(
            torch.empty((self.depth, max_batch, manifest.answer.width))
        )
        self._turn = 0
        self._prepare(network, dtype, threads)

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, place: Place) -> "TorchBackend":
        """See :meth:`Backend.open`: on the device that the place names."""
        from gsop.backends.torch_cpu import TorchCpu
        from gsop.backends.torch_cuda import TorchCuda

        device = find_device(place.device)
        kinds: dict[str, type[TorchBackend]] = {"cpu": TorchCpu, "cuda": TorchCuda}
        kind = kinds[device.type] if cls is TorchBackend else cls
        dtype = find_dtype(place.precision, device)
        return kind(
            manifest,
            load_expected(folder, manifest),
            device=device,
            dtype=dtype,
            max_batch=place.max_batch or DEFAULT_MAX_BATCH[device.type],
            threads=place.threads,
        )

    def submit(self, images: Sequence[Pixels]) -> Staged:
        """See :meth:`Backend.submit`."""
        turn = (self._turn + 1) % self.depth
        staged = self._images[turn, : len(images)]
        np.stack(images, out=staged.numpy())
        values = self._values[turn, : len(images)]
        pending = within_memory(lambda: self._compute(staged, values, turn))
        self._turn = turn  # only now: after a failure the batch in flight keeps its own
        return pending

    def result(self, pending: Staged) -> Values:
        """See :meth:`Backend.result`."""
        if pending.finished is not None:
            pending.finished.synchronize()
        return np.asarray(pending.values.numpy())

    def _host_memory(self, memory: Tensor) -> Tensor:
        """Memory that the device copies from and to."""
        return memory

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        """Bring what is to be computed onto the device. Called once, last."""
        raise NotImplementedError(f"{type(self).__name__} is no kind of device")

    def _compute(self, staged: Tensor, values: Tensor, turn: int) -> Staged:
        """From images on the host ``(N, H, W, 3)`` to ``values`` on the host ``(N, width)``.

        It may return before the device is done.
        """
        raise NotImplementedError(f"{type(self).__name__} is no kind of device")

    def _answering(self, network: GSoPResNet, dtype: torch.dtype) -> Answering:
        """What is computed, on the device, channels last."""
        answering = Answering(self.manifest, network, dtype).to(self._device)
        moved: Answering = answering.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        return moved
