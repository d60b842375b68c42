"""``GSOP_BACKEND=torch``: which device and number type it is, and what they have in common."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gsop.backends.answering import Answering, load_expected
from gsop.backends.base import Backend, OutOfMemory, Pixels, Place, Values
from gsop.backends.gpus import is_uuid, why_none
from gsop.cuda_options import CudaOptions
from gsop.errors import ConfigError, SetupError
from gsop.model.resnet import GSoPResNet
from gsop.settings import Precision
from gsop.store.manifest import Manifest

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_CUDA_OUT_OF_MEMORY = 2
"""``cudaErrorMemoryAllocation``: of calls that do not go through torch's allocator."""

_LIBRARIES_OUT_OF_MEMORY = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""What torch says where a library has no memory for its workspace. The last one, of cuDNN, it says
where each way to convolve has failed, for whatever reason: for memory, of those that are met."""

DEFAULT_MAX_BATCH = {"cuda": 64, "cpu": 16}


def find_device(name: str, called: str = "") -> torch.device:
    """The device that ``GSOP_DEVICE`` names; ``auto`` is CUDA where there is one, else the CPU.

    Args:
        name: of a device that this process sees.
        called: by the operator, if it is otherwise.

    Raises:
        ConfigError: if this machine has no such device; for ``auto``, if it has a GPU that cannot
            be used: the CPU in its place would be hundreds of times slower, and nobody told.
    """
    called = called or name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and (reason := _why_no_gpu()) is not None:
            raise ConfigError(
                f"GSOP_DEVICE is auto, and this machine has an NVIDIA GPU, but {reason}; or set "
                "GSOP_DEVICE=cpu, if the CPU is meant"
            )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"GSOP_DEVICE names {called!r}, which is no device: use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type not in DEFAULT_MAX_BATCH:
        raise ConfigError(f"GSOP_DEVICE names {called!r}: only the CPU and CUDA devices are served")
    if device.type == "cpu":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        reason = _why_no_gpu() or "pass the GPU through (docker run --gpus all)"
        if is_uuid(called):
            reason = f"name one that `nvidia-smi -L` lists, if it is none; else {reason}"
        raise ConfigError(
            f"GSOP_DEVICE names {called!r}, but {torch.cuda.device_count()} CUDA devices are "
            f"visible: {reason}, or set GSOP_DEVICE=cpu"
        )
    return torch.device("cuda", index)


def _why_no_gpu() -> str | None:
    if torch.cuda.is_available():
        return None
    return why_none(torch.__version__, torch.version.cuda, os.environ)


def find_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that the network computes in.

    Raises:
        ConfigError: if the device has no fast path for it.
    """
    if device.type == "cpu":
        if precision == "float16":
            raise ConfigError(
                "GSOP_PRECISION=float16 is for CUDA: use float32 or bfloat16 on the CPU"
            )
        return DTYPES["float32" if precision == "auto" else precision]
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float16
    if precision == "bfloat16" and not _has_bfloat16(device):
        raise ConfigError(
            f"GSOP_PRECISION=bfloat16, which {torch.cuda.get_device_name(device)} would only "
            "emulate: use float16 or float32"
        )
    return DTYPES[precision]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has circuits for it: since Ampere."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def compute_exactly() -> None:
    """What is said to be float32 is float32, of this process's GPUs, too.

    torch would convolve float32 in TF32, which has the ten bits of float16. An answer in
    ``GSOP_PRECISION=float32`` would be off by a thousandth, and so would be the gates of a network
    in half precision, which stay in float32 on purpose (:mod:`gsop.model.precision`), and what a
    version is measured and compared by.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def name_of(dtype: torch.dtype) -> str:
    """``float32`` and its like."""
    return str(dtype).removeprefix("torch.")


def within_memory(compute: Callable[[], T]) -> T:
    """What ``compute`` returns.

    Raises:
        OutOfMemory: if torch says so; outside of its exception, which holds the batch's tensors.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error)
    raise OutOfMemory(reason)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is that, or came up while that was handled.

    Where memory ends while a graph is recorded, the recording's own error takes the place of it.
    """
    while error is not None:
        code, text = getattr(error, "error_code", None), str(error)
        if isinstance(error, torch.OutOfMemoryError) or code == _CUDA_OUT_OF_MEMORY:
            return True
        if any(words in text for words in _LIBRARIES_OUT_OF_MEMORY):
            return True
        error = error.__context__
    return False


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
        called: the device, by the operator, if it is otherwise.
        cuda: how it computes, if it is a CUDA device.
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
        called: str = "",
        cuda: CudaOptions | None = None,
    ) -> None:
        super().__init__(
            manifest, device=called or str(device), precision=name_of(dtype), max_batch=max_batch
        )
        self._device = device
        self._options = cuda or CudaOptions()
        self._take_device()
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

        device = find_device(place.device, place.name)
        kinds: dict[str, type[TorchBackend]] = {"cpu": TorchCpu, "cuda": TorchCuda}
        kind = kinds[device.type] if cls is TorchBackend else cls
        dtype = find_dtype(place.precision, device)
        network = load_expected(folder, manifest)
        max_batch = place.max_batch or DEFAULT_MAX_BATCH[device.type]
        try:
            return within_memory(
                lambda: kind(
                    manifest,
                    network,
                    device=device,
                    dtype=dtype,
                    max_batch=max_batch,
                    threads=place.threads,
                    called=device.type if place.name == "auto" else place.name,
                    cuda=place.cuda,
                )
            )
        except OutOfMemory as error:
            raise SetupError(
                f"{place.name or device} has no memory for {manifest.name}/{manifest.version}: "
                "end what else uses it, or load fewer models"
            ) from error

    def submit(self, images: Sequence[Pixels]) -> Staged:
        """See :meth:`Backend.submit`."""
        turn = (self._turn + 1) % self.depth
        staged = self._gathered(images, turn)
        values = self._values[turn, : len(images)]

        def compute() -> Staged:
            with torch.inference_mode():
                return self._compute(staged, values, turn)

        try:
            pending = within_memory(compute)
        except OutOfMemory:
            self._settle()
            raise
        self._turn = turn  # only now: after a failure the batch in flight keeps its own
        return pending

    def result(self, pending: Staged) -> Values:
        """See :meth:`Backend.result`."""
        if pending.finished is not None:
            pending.finished.synchronize()
        return np.asarray(pending.values.numpy())

    def _take_device(self) -> None:
        """Make the device this process's own. Called once, first."""

    def _settle(self) -> None:
        """Wait until nothing of a batch that failed is under way."""

    def _host_memory(self, memory: Tensor) -> Tensor:
        """Memory that the device copies from and to."""
        return memory

    def _prepare(self, network: GSoPResNet, dtype: torch.dtype, threads: int) -> None:
        """Bring what is to be computed onto the device. Called once, last."""
        raise NotImplementedError(f"{type(self).__name__} is no kind of device")

    def _gathered(self, images: Sequence[Pixels], turn: int) -> Sequence[Tensor]:
        """Images on the host, ``(N, H, W, 3)`` in pieces, from where the device takes them."""
        staged = self._images[turn, : len(images)]
        np.stack(images, out=staged.numpy())
        return (staged,)

    def _compute(self, staged: Sequence[Tensor], values: Tensor, turn: int) -> Staged:
        """From images ``(N, H, W, 3)``, in pieces, to ``values`` ``(N, width)``, both on the host.

        It may return before the device is done.
        """
        raise NotImplementedError(f"{type(self).__name__} is no kind of device")

    def _answering(self, network: GSoPResNet, dtype: torch.dtype) -> Answering:
        """What is computed, on the device, channels last."""
        answering = Answering(self.manifest, network, dtype).to(self._device)
        moved: Answering = answering.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        return moved
