"""Shared memory in regions, each with one kind of writer.

A :class:`Block` holds what is known before anybody maps it (its *plan*), and regions. So every
field has one writer and no lock exists. :meth:`Block.view` is read-only; :meth:`Block.own` is the
part that a process of the given role may write, and there is no other way to any of it: a second
writer is an error of numpy's (``assignment destination is read-only``), not a lost request.
"""

import errno
import math
import mmap
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from gsop.processes.memory import available_bytes
from gsop.processes.shared_memory import anonymous_memory, keep_size

P = TypeVar("P", bound=BaseModel)

PAGE = 4096


class Role(NamedTuple):
    """Who maps a block; it decides what may be written."""

    kind: Literal["supervisor", "front", "engine"]
    number: int = 0


SUPERVISOR = Role("supervisor")

Part = Callable[[Role], slice | int | None]
"""The part of a region that a role writes: of its first axis a range or one entry, the latter
without that axis; ``None`` if there is none."""


class Region(NamedTuple):
    """A region: what its entries are, and whose.

    Attributes:
        dtype: of each entry.
        shape: of the whole.
        part: what a role may write of it.
    """

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    part: Part


def whole(kind: str) -> Part:
    """All of it is written by the roles of a kind, of which there is one."""
    return lambda role: slice(None) if role.kind == kind else None


def row(kind: str) -> Part:
    """Each role of a kind writes the entry of its number."""
    return lambda role: role.number if role.kind == kind else None


Fields = Mapping[str, npt.NDArray[Any]]
"""By name, each field of a region of records as an array: to make such a view anew for each access
costs more than the access."""


def fields_of(records: npt.NDArray[Any]) -> Fields:
    """The fields of a region, or of a part of it."""
    return {name: records[name] for name in records.dtype.names or ()}


class Block(ABC, Generic[P]):
    """Shared memory, as a process of one role sees it.

    Attributes:
        fd: file descriptor of the memory, to be inherited by children.
        plan: what was known before.
        role: who this process is.
    """

    plan_type: ClassVar[type[BaseModel]]
    name: ClassVar[str]
    """What the kernel lists it as."""

    def __init__(self, fd: int, plan: P, offset: int, role: Role) -> None:
        self.fd = fd
        self.plan = plan
        self.role = role
        self._regions = self.regions(plan)
        places, end = {}, _page_up(offset)
        for name, region in self._regions.items():
            places[name] = end
            end = _page_up(end + np.dtype(region.dtype).itemsize * math.prod(region.shape))
        if os.fstat(fd).st_size < end:
            # Reserved now: a machine without the memory says so at start, not by SIGBUS later. But
            # asked for more than it has, the kernel would end processes rather than refuse.
            available = available_bytes()
            if available is not None and end > available:
                raise OSError(errno.ENOMEM, f"{end} bytes, and {available} are available")
            os.posix_fallocate(fd, 0, end)
            keep_size(fd)
        memory = mmap.mmap(fd, end)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            name: np.ndarray(region.shape, region.dtype, memory, places[name])
            for name, region in self._regions.items()
        }

    @staticmethod
    @abstractmethod
    def regions(plan: P) -> Mapping[str, Region]:
        """The regions of a block with that plan."""

    @classmethod
    def create(cls, plan: P) -> Self:
        """A new block, all zero; the supervisor's.

        Raises:
            OSError: if the machine has not the memory.
        """
        header = plan.model_dump_json().encode()
        fd = anonymous_memory(cls.name)
        os.write(fd, struct.pack("<Q", len(header)) + header)
        try:
            return cls(fd, plan, 8 + len(header), SUPERVISOR)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, role: Role) -> Self:
        """The block behind a file descriptor that the supervisor passed on."""
        (length,) = struct.unpack("<Q", os.pread(fd, 8, 0))
        plan = cls.plan_type.model_validate_json(os.pread(fd, length, 8))
        return cls(fd, plan, 8 + length, role)  # type: ignore[arg-type]  # the subclass pairs them

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
        part = self._regions[region].part(self.role)
        array = self._arrays[region]
        if part is None:
            raise PermissionError(f"{region} is not written by a {self.role.kind}")
        if isinstance(part, int):
            # A range and a reshape: an index alone would give a copy where there is one axis.
            return array[part : part + 1].reshape(array.shape[1:])
        return array[part] if array.ndim else array


def _page_up(offset: int) -> int:
    return -(-offset // PAGE) * PAGE
