"""Slots, and the one block of shared memory that they lie in: the arena.

Every process of the service maps it. It holds what is known before any request (the
:class:`Deployment`), the state of each engine, the slots with their pixels and answers, and the
counters behind ``/metrics``::

    | deployment (JSON) | service | fronts | engines | slots | counters | inputs | outputs |

The memory is a ``memfd`` (elsewhere an unlinked temporary file): it is no file in ``/dev/shm``, so
a container's limit there does not matter, and it is gone when the last process is, however it died.

Every field has one writer, so no lock exists: a front writes what it asks in the slots that it
owns, an engine writes what it answers, and a ticket ties the two together. ``ticket`` is the
request that now holds the slot, ``running`` the last one that an engine began, ``done`` the last
one that an engine finished; an answer counts only where ``done == ticket``.
"""

import math
import mmap
import os
import struct
import tempfile
from enum import IntEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from gsop.errors import ConfigError
from gsop.settings import Settings
from gsop.store.manifest import Manifest

PAGE = 4096

EXIT_SETUP = 3
"""Exit status of a child for a mistake that starting it again does not mend."""

SERVICE = np.dtype(
    [
        ("phase", np.uint8),  # Phase; written by the supervisor
        ("beat", np.uint64),  # monotonic ns of the supervisor's last round
    ],
    align=True,
)
FRONT = np.dtype(
    [
        ("serving", np.bool_),  # it takes requests; by the front, taken back by the supervisor
    ],
    align=True,
)
ENGINE = np.dtype(
    [
        ("state", np.uint8),  # EngineState
        ("epoch", np.uint32),  # how often the engine became ready
        ("restarts", np.uint32),  # how often its process was started again; by the supervisor
        ("pid", np.uint32),
        ("beat", np.uint64),  # monotonic ns of the loop's last round
        ("busy_since", np.uint64),  # monotonic ns at which its oldest unfinished batch began, or 0
        ("batch_limit", np.uint32),  # most images in a batch
        ("fixed_seconds", np.float64),  # that a batch is expected to take, whatever its size,
        ("image_seconds", np.float64),  # and for each image; of the model that ran last
        ("device", "S64"),
        ("precision", "S16"),
        ("reason", "S512"),  # why it failed; for the operator, never for a client
    ],
    align=True,
)
SLOT = np.dtype(
    [
        # written by the front that owns the slot
        ("ticket", np.uint64),  # the request that holds the slot, or 0
        ("model", np.uint16),  # index into Deployment.manifests
        ("owner", np.uint16),  # whose image it is: a key's place in the settings + 1, or 0
        ("top_k", np.uint32),
        ("deadline", np.uint64),  # monotonic ns
        ("submitted", np.uint64),  # monotonic ns
        ("id", "S24"),  # the prediction's public id
        # written by the engine
        ("running", np.uint64),  # the last ticket that a batch was begun with
        ("done", np.uint64),  # the last ticket that is finished
        ("started", np.uint64),  # monotonic ns at which the batch began
        ("finished", np.uint64),  # monotonic ns at which the batch ended
        ("outcome", np.uint8),  # Outcome
        ("batch", np.uint16),  # images in the batch
    ],
    align=True,
)


class EngineState(IntEnum):
    """What an engine is doing; ``/readyz`` and ``/metrics`` name it in lower case."""

    STARTING = 0
    """The process is being started, for the first time or again."""
    LOADING = 1
    """It reads and verifies the model versions."""
    WARMING = 2
    """It runs forward passes of real shapes."""
    READY = 3
    """It answers."""
    STOPPED = 4
    """It was told to stop."""
    FAILED = 5
    """It died or could not start; it is started again with back-off."""


class Phase(IntEnum):
    """How far the whole service has come towards its end."""

    SERVING = 0
    """Nobody asked it to stop."""
    LEAVING = 1
    """``/readyz`` says no, requests are still taken: load balancers are looking elsewhere."""
    DRAINING = 2
    """New work is refused, work in flight is answered."""


class Outcome(IntEnum):
    """How the engine finished a slot."""

    OK = 0
    NON_FINITE = 1
    """The network answered with NaN or infinity."""
    EXPIRED = 2
    """The deadline would have passed before a batch's end: the device never saw the image."""
    OUT_OF_MEMORY = 3
    """The device has no room for the image, not even in a batch of one."""


class Deployment(BaseModel):
    """All that is settled before the first process starts; each child reads it from the arena.

    Attributes:
        settings: the service's settings.
        manifests: the models to load, the first being the default.
        address: prefix of the engines' socket addresses.
        counters: numbers that each process counts for ``/metrics``.
    """

    model_config = ConfigDict(frozen=True)

    settings: Settings
    manifests: tuple[Manifest, ...]
    address: str
    counters: int

    @property
    def fronts(self) -> int:
        """Front processes."""
        return self.settings.front_count

    @property
    def engines(self) -> int:
        """Engine processes, one a device."""
        return len(self.settings.devices)

    @property
    def input_bytes(self) -> int:
        """Bytes of the largest model's input image."""
        return max(m.input.height * m.input.width * 3 for m in self.manifests)

    @property
    def output_floats(self) -> int:
        """Numbers in the largest model's answer: probabilities, then gates."""
        return max(m.config.num_classes + m.gate_size for m in self.manifests)

    def engine_address(self, engine: int) -> str:
        """Address of an engine's Unix socket."""
        return f"{self.address}-{engine}"

    def slots_of(self, front: int) -> range:
        """The slots that a front owns. No slot is shared, so none can leak to another."""
        total, fronts = self.settings.slots, self.fronts
        return range(total * front // fronts, total * (front + 1) // fronts)


class Arena:
    """The shared memory, seen as numpy arrays.

    Attributes:
        fd: file descriptor of the memory, to be inherited by children.
        deployment: what the service is.
        service: a single :data:`SERVICE` record, shape ``()``.
        fronts: ``(fronts,)`` :data:`FRONT` records.
        engines: ``(engines,)`` :data:`ENGINE` records.
        slots: ``(slots,)`` :data:`SLOT` records.
        fields: by name, each field of ``slots`` as a ``(slots,)`` array: to make such a view anew
            for each access costs more than the access.
        counters: ``(fronts + engines, counters)`` float64; each process adds to its own row, and
            the row outlives the process, so no counter ever goes back.
        inputs: ``(slots, input_bytes)`` uint8, the pixels of slot i in row i.
        outputs: ``(slots, output_floats)`` float32: probabilities, then gates.
    """

    def __init__(self, fd: int, deployment: Deployment, header_bytes: int) -> None:
        self.fd = fd
        self.deployment = deployment
        engines, slots = deployment.engines, deployment.settings.slots
        regions: list[tuple[npt.DTypeLike, tuple[int, ...]]] = [
            (SERVICE, ()),
            (FRONT, (deployment.fronts,)),
            (ENGINE, (engines,)),
            (SLOT, (slots,)),
            (np.float64, (deployment.fronts + engines, deployment.counters)),
            (np.uint8, (slots, deployment.input_bytes)),
            (np.float32, (slots, deployment.output_floats)),
        ]
        offsets, end = [], _page_up(header_bytes)
        for dtype, shape in regions:
            offsets.append(end)
            end = _page_up(end + np.dtype(dtype).itemsize * math.prod(shape))
        if os.fstat(fd).st_size < end:
            # Reserved now: a machine without the memory says so at start, not by SIGBUS later.
            os.posix_fallocate(fd, 0, end)
        memory = mmap.mmap(fd, end)
        views: list[npt.NDArray[Any]] = [
            np.ndarray(shape, dtype, memory, offset)
            for (dtype, shape), offset in zip(regions, offsets, strict=True)
        ]
        self.service, self.fronts, self.engines, self.slots, self.counters = views[:5]
        self.inputs, self.outputs = views[5:]
        self.fields = {name: self.slots[name] for name in SLOT.names or ()}

    @classmethod
    def create(cls, deployment: Deployment) -> Self:
        """A new arena, all zero.

        Raises:
            ConfigError: if the machine has not the memory for so many slots.
        """
        header = deployment.model_dump_json().encode()
        fd = _anonymous_file()
        os.write(fd, struct.pack("<Q", len(header)) + header)
        try:
            return cls(fd, deployment, 8 + len(header))
        except OSError as error:
            os.close(fd)
            raise ConfigError(
                f"no memory for {deployment.settings.slots} slots of "
                f"{deployment.input_bytes + 4 * deployment.output_floats} bytes "
                f"({error.strerror}): lower GSOP_SLOTS"
            ) from error

    @classmethod
    def attach(cls, fd: int) -> Self:
        """The arena behind a file descriptor that the supervisor passed on."""
        (length,) = struct.unpack("<Q", os.pread(fd, 8, 0))
        deployment = Deployment.model_validate_json(os.pread(fd, length, 8))
        return cls(fd, deployment, 8 + length)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last array that sees it."""
        os.close(self.fd)

    @property
    def phase(self) -> Phase:
        """How far the service has come towards its end."""
        return Phase(int(self.service["phase"]))

    def image(self, slot: int, model: int) -> npt.NDArray[np.uint8]:
        """The pixels of a slot, ``(H, W, 3)`` as the model of that index wants them."""
        spec = self.deployment.manifests[model].input
        size = spec.height * spec.width * 3
        return self.inputs[slot, :size].reshape(spec.height, spec.width, 3)


def _page_up(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gsop-arena")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
