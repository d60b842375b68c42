"""The doubles of ``torch.cuda``'s functions and classes, and how they are put in place."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tests.emulated_cuda.machine import CaptureInvalidated, Machine, Mark, Recording, Stream
from tests.emulated_cuda.tensors import Emulation, _pinned

IS_REAL = torch.cuda.is_available()


@contextmanager
def emulated(machine: Machine) -> Iterator[Machine]:
    """``torch.cuda`` is that of ``machine``, in this thread and in those that take its events."""
    if IS_REAL:
        pytest.skip("there is a real GPU, and torch lets nobody take its place")
    torch._C._ensureCUDADeviceGuardSet()  # no driver is asked which device is current
    runtime = Runtime(machine)
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for name, double in runtime.doubles().items():
            stack.enter_context(patch.object(torch.cuda, name, double))
        stack.enter_context(patch.object(torch.cuda.graph, "default_capture_stream", None))
        stack.enter_context(patch.object(torch._C, "_host_emptyCache", lambda: None))
        # A module's weights change their class, as they do not on a real device.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        stack.enter_context(Emulation(machine))
        yield machine


class Runtime:
    """``torch.cuda`` over one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def doubles(self) -> dict[str, Any]:
        """What replaces what, by name."""
        machine = self.machine

        class BoundStream(StreamDouble):
            def __init__(self, device: Any = None, priority: int = 0) -> None:
                super().__init__(machine.new_stream(_index(machine, device)))

        class BoundEvent(EventDouble):
            def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
                super().__init__(machine, blocking=blocking, timed=enable_timing)

        class BoundGraph(GraphDouble):
            def __init__(self) -> None:
                super().__init__(machine)

        return {
            "_lazy_init": lambda: None,
            "is_available": lambda: bool(machine.devices),
            "is_initialized": lambda: True,
            "device_count": lambda: len(machine.devices),
            "current_device": lambda: machine.current,
            "set_device": self.set_device,
            "device": lambda device: machine.on(_index(machine, device)),
            "current_stream": lambda device=None: StreamDouble(
                machine.stream_of(_index(machine, device))
            ),
            "set_stream": lambda stream: machine.choose(stream.stream),
            "stream": self.stream,
            "Stream": BoundStream,
            "Event": BoundEvent,
            "CUDAGraph": BoundGraph,
            "graph_pool_handle": lambda: (0, 1),
            "synchronize": self.synchronize,
            "empty_cache": self.empty_cache,
            "mem_get_info": self.mem_get_info,
            "is_bf16_supported": lambda including_emulation=True: (
                machine.has_bfloat16 or including_emulation
            ),
            "cudart": lambda: self,
            "get_device_capability": lambda device=None: (9, 0),
            "get_device_name": lambda device=None: machine.names[_index(machine, device)],
        }

    def set_device(self, device: Any) -> None:
        """As torch's, which wants an index."""
        if isinstance(device, torch.device) and device.index is None:
            raise ValueError(
                f"Expected a torch.device with a specified index or an integer, but got:{device}"
            )
        self.machine.current = _index(self.machine, device)

    @contextmanager
    def stream(self, stream: "StreamDouble | None") -> Iterator[None]:
        """The stream is its device's current one, and its device the current one."""
        if stream is None:
            yield
            return
        machine, chosen = self.machine, stream.stream
        device, before = machine.current, machine.stream_of(chosen.device)
        machine.choose(chosen)
        try:
            yield
        finally:
            machine.choose(before)
            machine.current = device

    def synchronize(self, device: Any = None) -> None:
        """Wait for all of a device's streams."""
        index = _index(self.machine, device)
        for stream in self.machine.streams:
            if stream.device == index:
                self.machine.wait(stream.mark(), "synchronize")

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802  # CUDA's name
        """Pin memory that is there already; ``cudaErrorHostMemoryAlreadyRegistered``, if it is."""
        error = self.machine.registers or (712 if address in _pinned else 0)
        if not error:
            _pinned.add(address)
        self.machine.last_error = error or self.machine.last_error
        return error

    def empty_cache(self) -> None:
        """Give back what is not in use."""
        self.machine.empties.append([device.live for device in self.machine.devices])
        for device in self.machine.devices:
            device.cached = 0

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes."""
        found = self.machine.devices[_index(self.machine, device)]
        return found.capacity - found.live - found.cached, found.capacity


class StreamDouble:
    """``torch.cuda.Stream``."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.device = torch.device("cuda", stream.device)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreamDouble) and other.stream is self.stream

    def __hash__(self) -> int:
        return hash(self.stream)

    def wait_stream(self, other: "StreamDouble") -> None:
        """What is submitted from now on runs after what ``other`` has now."""
        self.stream.submit(other.stream.mark().reach)

    def wait_event(self, event: "EventDouble") -> None:
        """What is submitted from now on runs after the event."""
        event.wait(self)

    def record_event(self, event: "EventDouble | None" = None) -> "EventDouble":
        """An event behind what it has now."""
        event = event or EventDouble(self.stream.machine)
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Wait for all that it has."""
        self.stream.machine.wait(self.stream.mark(), "a stream")

    def query(self) -> bool:
        """Whether it has nothing to do."""
        return self.stream.mark().is_reached


class EventDouble:
    """``torch.cuda.Event``."""

    def __init__(self, machine: Machine, *, blocking: bool = False, timed: bool = False) -> None:
        machine.events.append(blocking)
        self._machine, self._timed = machine, timed
        self._mark: Mark | None = None
        self._recorded = 0.0

    def record(self, stream: StreamDouble | None = None) -> None:
        """Behind what the stream has now; without one the *current device's* current stream."""
        machine = self._machine
        chosen = machine.stream_of(machine.current) if stream is None else stream.stream
        if self._mark is not None and self._mark.stream.device != chosen.device:
            raise RuntimeError("the event belongs to another device than the stream")
        self._mark, self._recorded = chosen.mark(), time.perf_counter()

    def wait(self, stream: StreamDouble | None = None) -> None:
        """What is submitted to the stream from now on runs after it."""
        machine = self._machine
        chosen = machine.stream_of(machine.current) if stream is None else stream.stream
        if self._mark is not None:
            chosen.submit(self._mark.reach)

    def query(self) -> bool:
        """Whether the device is past it."""
        return self._mark is None or self._mark.is_reached

    def elapsed_time(self, after: "EventDouble") -> float:
        """Milliseconds, of the host's clock, which says nothing of a device."""
        for event in (self, after):
            if not (event._timed and event._mark is not None and event.query()):
                raise RuntimeError("Both events must be recorded, completed, and made for timing")
        return 1000 * (after._recorded - self._recorded)

    def synchronize(self) -> None:
        """Wait for it; one that was not recorded is past."""
        if self._mark is not None:
            self._machine.wait(self._mark, "an event")


class GraphDouble:
    """``torch.cuda.CUDAGraph``; torch's own ``torch.cuda.graph`` records it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.recording = Recording()

    def capture_begin(self, pool: Any = None, **_: Any) -> None:
        """Record what the current stream of the current device is given."""
        stream = self._machine.stream_of(self._machine.current)
        if stream is self._machine.devices[stream.device].default_stream:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        stream.recording, self.recording.stream = self.recording, stream

    def capture_end(self) -> None:
        """Record no more."""
        stream = self._machine.stream_of(self._machine.current)
        if stream is not self.recording.stream:
            raise RuntimeError("Capture must end on the same stream it began on.")
        stream.recording = None
        if self.recording.invalid:
            raise CaptureInvalidated("CUDA error: operation failed due to a previous error")

    def replay(self) -> None:
        """Submit it all again, to the current stream of the current device."""
        stream = self._machine.stream_of(self._machine.current)
        for task in self.recording.tasks:
            stream.submit(task)


def _index(machine: Machine, device: Any) -> int:
    if device is None:
        return machine.current
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return machine.current if index is None else index
