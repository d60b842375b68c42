"""GPUs that do nothing until somebody waits for them: devices, streams, events, graphs, memory.

A task that is submitted to a stream is run when it has to be, no sooner: when the host waits for
an event behind it, or another stream does. So whoever looks too early sees what was there before,
and whoever overwrites too early spoils what the device still needs, every time and not once a
month. With a ``seed`` streams also run at random moments, in an order that nobody has chosen.

What a task is, is not known here; :mod:`tests.emulated_cuda.tensors` submits operators.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

Task = Callable[[], object]


class CaptureInvalidated(RuntimeError):
    """The host waited, or did what else CUDA forbids, while a stream was recorded."""


@dataclass
class Recording:
    """What a graph replays.

    Attributes:
        tasks: in their order.
        stream: that they were submitted to; ``None`` once it is over.
        invalid: whether something forbidden was done meanwhile.
    """

    tasks: list[Task] = field(default_factory=list)
    stream: "Stream | None" = None
    invalid: bool = False


class Stream:
    """Work in order. Other streams' work has no order to it but by marks."""

    def __init__(self, machine: "Machine", device: int) -> None:
        self.machine, self.device = machine, device
        self.recording: Recording | None = None
        self._tasks: deque[Task] = deque()
        self._submitted = self._finished = 0

    def submit(self, task: Task) -> None:
        """Have ``task`` run after all that was submitted before."""
        if self.recording is not None:
            self.recording.tasks.append(task)
            return
        self._tasks.append(task)
        self._submitted += 1
        self.machine.let_some_run()

    def mark(self) -> "Mark":
        """The end of what has been submitted so far."""
        return Mark(self, self._submitted)

    def run_to(self, count: int) -> None:
        """Run until so many tasks are finished."""
        while self._finished < count:
            task = self._tasks.popleft()
            with torch.inference_mode():
                task()
            self._finished += 1

    @property
    def unfinished(self) -> int:
        """Tasks that wait."""
        return len(self._tasks)

    def is_past(self, count: int) -> bool:
        """Whether so many tasks are finished."""
        return self._finished >= count


@dataclass(frozen=True)
class Mark:
    """A place in a stream."""

    stream: Stream
    count: int

    @property
    def is_reached(self) -> bool:
        """Whether all before it is finished."""
        return self.stream.is_past(self.count)

    def reach(self) -> None:
        """Run all before it."""
        self.stream.run_to(self.count)


class Device:
    """One GPU: its default stream, and its memory, which is only counted.

    Attributes:
        capacity: bytes.
        live: bytes of tensors that somebody holds.
        most: the largest that ``live`` has been.
        cached: bytes that were freed, and that the process keeps for itself.
        fail_in: allocations until one fails, whatever is free; ``None`` for no such failure.
        is_used: whether anything was done on it: a context of its own takes half a gigabyte.
    """

    def __init__(self, machine: "Machine", index: int) -> None:
        self.index = index
        self.default_stream = Stream(machine, index)
        self.capacity = 1 << 60
        self.live = self.most = self.cached = 0
        self.fail_in: int | None = None
        self.is_used = False

    def allocate(self, size: int) -> None:
        """Take memory.

        Raises:
            torch.OutOfMemoryError: if there is none, or it was arranged so.
        """
        self.is_used = True
        if self.fail_in is not None:
            self.fail_in -= 1
        if self.fail_in == 0 or self.live + size > self.capacity:
            self.fail_in = None
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self.live += size
        self.most = max(self.most, self.live)
        self.cached = min(self.cached, self.capacity - self.live)

    def free(self, size: int) -> None:
        """Give memory back, to the process."""
        self.live -= size
        self.cached += size


class Machine:
    """All devices, and what the program has asked of them.

    Args:
        devices: how many.
        names: of each instead, as who made it calls it.
        seed: of the moments at which streams run by themselves; ``None``: they do not.

    Attributes:
        waits: why the host waited for a device, each time.
        empties: each device's live bytes at each ``empty_cache``.
        events: the ``blocking`` of each event that was made.
        names: of the devices.
        has_bfloat16: whether they have circuits for it.
        registers: the error with which host memory is registered; 0 for none.
        last_error: of a call whose error nobody was raised; the next kernel's, to all appearance.
    """

    has_bfloat16 = True
    registers = last_error = 0

    def __init__(
        self, devices: int = 2, *, names: Sequence[str] = (), seed: int | None = None
    ) -> None:
        self.names = list(names) or [f"Emulated GPU {index}" for index in range(devices)]
        self.devices = [Device(self, index) for index in range(len(self.names))]
        self.streams = [device.default_stream for device in self.devices]
        self.lock = threading.RLock()
        self.waits: list[str] = []
        self.empties: list[list[int]] = []
        self.events: list[bool] = []
        self._chance = None if seed is None else random.Random(seed)  # noqa: S311  # no secret
        self._running = False
        self._here = threading.local()

    # What each thread of the host has set.

    @property
    def current(self) -> int:
        """The current device."""
        found: int = getattr(self._here, "device", 0)
        return found

    @current.setter
    def current(self, device: int) -> None:
        if not 0 <= device < len(self.devices):
            raise RuntimeError("CUDA error: invalid device ordinal")
        self._here.device = device

    def stream_of(self, device: int) -> Stream:
        """The current stream of a device."""
        chosen: dict[int, Stream] = self._here.__dict__.setdefault("streams", {})
        return chosen.get(device, self.devices[device].default_stream)

    def choose(self, stream: Stream) -> None:
        """Make a stream the current one of its device, and that the current device."""
        self._here.__dict__.setdefault("streams", {})[stream.device] = stream
        self.current = stream.device

    def new_stream(self, device: int) -> Stream:
        """One more stream."""
        self.devices[device].is_used = True
        stream = Stream(self, device)
        self.streams.append(stream)
        return stream

    # What happens on the devices.

    def wait(self, mark: Mark, why: str) -> None:
        """The host waits."""
        with self.lock:
            for stream in self.streams:
                if stream.recording is not None:
                    stream.recording.invalid = True
                    raise CaptureInvalidated(
                        "CUDA error: operation not permitted when stream is capturing"
                    )
            self.waits.append(why)
            mark.reach()

    def check_launch(self) -> None:
        """What torch asks after each kernel: is there an error? It is gone by that.

        Raises:
            RuntimeError: if there is one, whatever it came of.
        """
        error, self.last_error = self.last_error, 0
        if error:
            raise RuntimeError(f"CUDA error: {error}")

    def let_some_run(self) -> None:
        """Some streams get on by themselves, if it was so chosen."""
        if self._chance is None or self._running:
            return
        self._running = True  # what runs submits nothing that runs others
        try:
            for stream in self._chance.sample(self.streams, len(self.streams)):
                done = stream.mark().count - stream.unfinished
                stream.run_to(done + self._chance.randint(0, stream.unfinished))
        finally:
            self._running = False

    @contextmanager
    def on(self, device: int) -> Iterator[None]:
        """With another current device."""
        before, self.current = self.current, device
        try:
            yield
        finally:
            self.current = before
