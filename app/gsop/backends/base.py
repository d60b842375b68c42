"""What computes: the small face that the engine knows, whatever library or device is behind it.

A backend is one model version on one device: uint8 images in, answers out. The engine opens one for
each version, warms it up, and then submits batches and takes their results, oldest first, with at
most :attr:`Backend.depth` of them unfinished. :mod:`gsop.backends.null` is a complete one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from gsop.cuda_options import CudaOptions
from gsop.errors import ConfigError, SetupError
from gsop.gates.tally import ClassTally, HostTally
from gsop.settings import Precision, Settings
from gsop.store.manifest import Manifest

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Pending = TypeVar("Pending")


class OutOfMemory(Exception):
    """The device has no room for a batch. Nothing else is wrong with it: a smaller one may fit.

    To be raised with nothing of the batch alive, so that :meth:`Backend.shrink` finds its memory
    free: not from within an ``except`` block, whose traceback holds the batch's tensors.
    """


@dataclass(frozen=True)
class Place:
    """Where a backend is to compute, and with what.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, of the devices that this process sees.
        precision: that the network computes in.
        max_batch: most images in a batch; 0: what suits the device.
        threads: of a forward on the CPU; 0: what suits the model and the machine.
        cache: folder where what is costly to make may be kept for the next start.
        name: what the operator calls the device, where this process calls it otherwise.
        cuda: how it is to compute, if it is a CUDA device.
    """

    device: str = "auto"
    precision: Precision = "auto"
    max_batch: int = 0
    threads: int = 0
    cache: Path | None = None
    name: str = ""
    cuda: CudaOptions = field(default_factory=CudaOptions)

    @classmethod
    def of(cls, settings: Settings, name: str, device: str = "") -> Self:
        """What the settings say of one of their devices.

        Args:
            settings: the service's.
            name: one of ``settings.devices``.
            device: what this process calls it, if it is otherwise.
        """
        return cls(
            device=device or name,
            name=name,
            precision=settings.precision,
            max_batch=settings.max_batch,
            threads=settings.torch_threads,
            cache=settings.cache_folder,
            cuda=settings.cuda,
        )


class Backend(ABC, Generic[Pending]):
    """One model version on one device.

    Attributes:
        manifest: of the version.
        device: where it computes, as ``/readyz`` names it.
        precision: what it computes in, as ``/readyz`` names it.
        max_batch: most images in a batch; :meth:`shrink` lowers it.
        depth: batches that may be unfinished at once.
        computes_here: whether it is this process that computes, on processors that others need too.
        hardware: what the device is called by who made it; empty for processors.
    """

    depth = 1
    computes_here = True
    hardware = ""

    def __init__(self, manifest: Manifest, *, device: str, precision: str, max_batch: int) -> None:
        self.manifest = manifest
        self.device = device
        self.precision = precision
        self.max_batch = max_batch

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, manifest: Manifest, place: Place) -> "Backend[Pending]":
        """Read a version and place it on a device.

        Args:
            folder: of the version.
            manifest: what the version is expected to be.
            place: where.

        Raises:
            SetupError: if the version, the device or a library is not to be had as it should be.
        """

    @abstractmethod
    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Begin a batch of 1 to ``max_batch`` images, each ``(H, W, 3)``; they are not kept.

        Raises:
            OutOfMemory: if the device has no room for so many. Batches in flight are unharmed.
            Exception: whatever the device raises: the engine ends, and a successor takes over.
        """

    @abstractmethod
    def result(self, pending: Pending) -> Values:
        """Wait for the oldest unfinished batch; its answers, ``(N, width)``.

        They may be overwritten by the ``depth``-th batch that is submitted after this call.
        """

    def wait(self, pending: Pending) -> None:
        """Return when the device is done with a batch, or at once if that is not to be known.

        The one method that may be called in another thread, while anything else is called in its
        own. Whatever the device raises here, :meth:`result` raises too.
        """

    def warm_up(self) -> None:
        """Run every batch size that is likely, so that no request pays for a first time.

        Raises:
            OutOfMemory: if the device has no room for ``max_batch`` images.
            Exception: whatever the device raises; a service that cannot do this is not ready.
        """
        spec = self.manifest.input
        image = np.zeros((spec.height, spec.width, 3), np.uint8)
        for size in reversed(buckets(self.max_batch)):  # the largest first: memory is reserved once
            self.result(self.submit([image] * size))

    def expect_bundles(self) -> None:
        """Told once, after it was opened, that images may also be bundles (``GSOP_PIXELS=planes``).

        Raises:
            ConfigError: if it takes none.
        """
        raise ConfigError(
            f"GSOP_PIXELS=planes is for CUDA devices, and {self.manifest.name} is computed on "
            f"{self.device}: leave it at decoded"
        )

    def reach(self, memory: Pixels) -> None:
        """Told once, after it was opened, where the images of most batches will lie.

        Those are not overwritten until the batch's result is taken, or nobody wants it any more.
        """

    def tally(self) -> ClassTally:
        """Where the gates' statistics are summed up: in the host's memory, if nothing is better."""
        return HostTally(self.manifest.answer.gate_size)

    def shrink(self, most: int) -> None:
        """From now on batches have at most so many images; give back what larger ones needed."""
        self.max_batch = most

    def close(self) -> None:  # nothing to do is a good answer
        """Give the device back."""


def buckets(max_batch: int) -> list[int]:
    """The sizes that batches are run in, ascending: powers of two below ``max_batch``, and it."""
    return [1 << n for n in range((max_batch - 1).bit_length())] + [max_batch]


def warm_up_in_memory(backend: Backend[Pending]) -> None:
    """Warm up, and lower the largest batch until it fits into the device's memory.

    Raises:
        SetupError: if not even one image does.
        Exception: whatever else the device raises.
    """
    while (reason := _why_it_does_not_fit(backend)) is not None:
        manifest = backend.manifest
        if backend.max_batch == 1:
            raise SetupError(
                f"{backend.device} has no memory for one image of {manifest.name}/"
                f"{manifest.version}: end what else uses it, or load fewer models ({reason})"
            )
        backend.shrink(backend.max_batch // 2)


def _why_it_does_not_fit(backend: Backend[Pending]) -> str | None:
    try:
        backend.warm_up()
    except OutOfMemory as error:
        return str(error).partition("\n")[0]
    return None


def check_answers(backend: Backend[Pending]) -> None:
    """See that a version answers with numbers, before anybody is answered by it.

    Raises:
        SetupError: if it answers with NaN or infinity to black, to white or to noise.
    """
    spec, manifest = backend.manifest.input, backend.manifest
    shape = (spec.height, spec.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for image in (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise):
        if not np.isfinite(backend.result(backend.submit([image]))).all():
            raise SetupError(
                f"{manifest.name}/{manifest.version} answers with NaN or infinity in "
                f"{backend.precision}: choose another GSOP_PRECISION, or train it anew"
            )
