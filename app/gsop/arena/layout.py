"""The one block of shared memory, and who may write where in it.

Every process of the service maps it. It holds what is known before any request (the
:class:`Deployment`), and these regions, each with one kind of writer:

=========  ==============================  ====================================================
region     shape                           written by
=========  ==============================  ====================================================
service    ``()``                          the supervisor
seats      ``(engines,)``                  the supervisor
fronts     ``(fronts,)``                   each front its own record
engines    ``(engines,)``                  each engine its own record
requests   ``(slots,)``                    each front those of the slots that it owns
inputs     ``(slots, bytes)`` uint8        each front those of the slots that it owns
answers    ``(engines, slots)``            each engine its own row
outputs    ``(engines, slots, width)``     each engine its own row
counters   ``(fronts + engines, …)``       each process its own row
=========  ==============================  ====================================================

So every field has one writer and no lock exists. :meth:`Arena.view` is read-only; :meth:`Arena.own`
is the part that a process of the given role may write, and there is no other way to any of it: a
second writer is an error of numpy's (``assignment destination is read-only``), not a lost request.
What the fields mean is known to :mod:`~gsop.arena.slot` and :mod:`~gsop.arena.board` alone.
"""

import math
import mmap
import os
import struct
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from gsop.arena.deployment import Deployment
from gsop.arena.families import Ledger
from gsop.errors import ConfigError
from gsop.processes.shared_memory import anonymous_memory

PAGE = 4096

SERVICE = np.dtype(
    [
        ("phase", np.uint8),  # Phase
        ("beat", np.uint64),  # monotonic ns of the supervisor's last round
    ],
    align=True,
)
SEAT = np.dtype(
    [
        ("incarnation", np.uint32),  # which process is, or will be, this engine: 1, 2, …
        ("failed", np.bool_),  # the one before it never became ready
    ],
    align=True,
)
FRONT = np.dtype(
    [
        ("serving", np.uint32),  # the incarnation that takes requests
    ],
    align=True,
)
ENGINE = np.dtype(
    [
        ("incarnation", np.uint32),  # which process wrote the fields below
        ("state", np.uint8),  # EngineState
        ("epoch", np.uint32),  # how often the engine became ready
        ("beat", np.uint64),  # monotonic ns of the loop's last round
        ("busy_since", np.uint64),  # monotonic ns at which its oldest unfinished batch began, or 0
        ("batch_limit", np.uint32),  # most images in a batch
        ("fixed_seconds", np.float64),  # that a batch is expected to take, whatever its size,
        ("image_seconds", np.float64),  # and for each image; of the model that ran last
        ("device", "S64"),
        ("precision", "S16"),
    ],
    align=True,
)
REQUEST = np.dtype(
    [
        ("ticket", np.uint64),  # the request that holds the slot, or 0
        ("model", np.uint16),  # index into Deployment.manifests
        ("caller", np.uint16),  # whose image it is: a key's place in the settings + 1, or 0
        ("top_k", np.uint32),
        ("deadline", np.uint64),  # monotonic ns
        ("submitted", np.uint64),  # monotonic ns
        ("id", "S24"),  # the prediction's public id
    ],
    align=True,
)
ANSWER = np.dtype(
    [
        ("running", np.uint64),  # the last ticket that a batch was begun with
        ("done", np.uint64),  # the last ticket that is finished
        ("started", np.uint64),  # monotonic ns at which the batch began
        ("finished", np.uint64),  # monotonic ns at which the batch ended
        ("outcome", np.uint8),  # Outcome
        ("batch", np.uint16),  # images in the batch
    ],
    align=True,
)


class Role(NamedTuple):
    """Who maps the arena; it decides what may be written."""

    kind: Literal["supervisor", "front", "engine"]
    number: int = 0


SUPERVISOR = Role("supervisor")

Fields = Mapping[str, npt.NDArray[Any]]
"""By name, each field of a region of records as an array: to make such a view anew for each access
costs more than the access."""


class Arena:
    """The shared memory, as a process of one role sees it.

    Attributes:
        fd: file descriptor of the memory, to be inherited by children.
        deployment: what the service is.
        role: who this process is.
    """

    def __init__(self, fd: int, deployment: Deployment, offset: int, role: Role) -> None:
        self.fd = fd
        self.deployment = deployment
        self.role = role
        shapes = _regions(deployment)
        places, end = {}, _page_up(offset)
        for name, (dtype, shape) in shapes.items():
            places[name] = end
            end = _page_up(end + np.dtype(dtype).itemsize * math.prod(shape))
        if os.fstat(fd).st_size < end:
            # Reserved now: a machine without the memory says so at start, not by SIGBUS later.
            os.posix_fallocate(fd, 0, end)
        memory = mmap.mmap(fd, end)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            name: np.ndarray(shape, dtype, memory, places[name])
            for name, (dtype, shape) in shapes.items()
        }

    @classmethod
    def create(cls, deployment: Deployment) -> Self:
        """A new arena, all zero; the supervisor's.

        Raises:
            ConfigError: if the machine has not the memory for so many slots.
        """
        header = deployment.model_dump_json().encode()
        fd = anonymous_memory("gsop-arena")
        os.write(fd, struct.pack("<Q", len(header)) + header)
        try:
            return cls(fd, deployment, 8 + len(header), SUPERVISOR)
        except OSError as error:
            os.close(fd)
            raise ConfigError(
                f"no memory for {deployment.settings.slots} slots of "
                f"{deployment.input_bytes + 4 * deployment.answer_width} bytes "
                f"({error.strerror}): lower GSOP_SLOTS"
            ) from error

    @classmethod
    def attach(cls, fd: int, role: Role) -> Self:
        """The arena behind a file descriptor that the supervisor passed on."""
        (length,) = struct.unpack("<Q", os.pread(fd, 8, 0))
        deployment = Deployment.model_validate_json(os.pread(fd, length, 8))
        return cls(fd, deployment, 8 + length, role)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last array that sees it."""
        os.close(self.fd)

    def view(self, region: str) -> npt.NDArray[Any]:
        """All of a region, to be read only."""
        array = self._arrays[region].view()
        array.flags.writeable = False
        return array

    def own(self, region: str) -> npt.NDArray[Any]:
        """The part of a region that this role writes.

        Raises:
            PermissionError: if there is none.
        """
        kind, number = self.role
        array = self._arrays[region]
        if (kind, region) in _WHOLE:
            return array
        if (kind, region) in _ROW:
            return array[number : number + 1].reshape(array.shape[1:])
        if (kind, region) in _SLOTS:
            owned = self.deployment.slots_of(number)
            return array[owned.start : owned.stop]
        if region == "counters" and kind != "supervisor":
            row = number + (kind == "engine") * self.deployment.fronts
            return array[row : row + 1].reshape(array.shape[1:])
        raise PermissionError(f"{region} is not written by a {kind}")


_WHOLE = {("supervisor", "service"), ("supervisor", "seats")}
_ROW = {("front", "fronts"), ("engine", "engines"), ("engine", "answers"), ("engine", "outputs")}
_SLOTS = {("front", "requests"), ("front", "inputs")}


def fields_of(records: npt.NDArray[Any]) -> Fields:
    """The fields of a region, or of a part of it."""
    return {name: records[name] for name in records.dtype.names or ()}


def _regions(deployment: Deployment) -> dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]:
    fronts, engines = deployment.fronts, deployment.engines
    slots = deployment.settings.slots
    return {
        "service": (SERVICE, ()),
        "seats": (SEAT, (engines,)),
        "fronts": (FRONT, (fronts,)),
        "engines": (ENGINE, (engines,)),
        "requests": (REQUEST, (slots,)),
        "answers": (ANSWER, (engines, slots)),
        "counters": (np.float64, (fronts + engines, Ledger(deployment.routes).length)),
        "inputs": (np.uint8, (slots, deployment.input_bytes)),
        "outputs": (np.float32, (engines, slots, deployment.answer_width)),
    }


def _page_up(offset: int) -> int:
    return -(-offset // PAGE) * PAGE
