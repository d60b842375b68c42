"""Tensors on emulated GPUs: an operator is submitted to a stream, and computed by the CPU later.

A :class:`DeviceTensor` says that it is on ``cuda:N``, and has its numbers in memory of the host
that the program does not see. They are not a number until the device has come so far.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.emulated_cuda.machine import Machine

aten = torch.ops.aten

DATA_DEPENDENT = {aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operators whose result's size is known once they are done: the host waits for them."""


UNWRITTEN = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
"""Operators that take memory and compute nothing."""


class DeviceTensor(Tensor):
    """A tensor on an emulated GPU.

    Attributes:
        memory: its numbers, once the device has come so far.
        machine: that its device belongs to.
        base: what it is a view of; ``None`` if it has memory of its own.
    """

    memory: Tensor
    machine: Machine
    base: "DeviceTensor | None" = None

    @staticmethod
    def __new__(
        cls: "type[DeviceTensor]", memory: Tensor, machine: Machine, device: int
    ) -> "DeviceTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            memory.size(),
            strides=memory.stride(),
            storage_offset=memory.storage_offset(),
            dtype=memory.dtype,
            device=torch.device("cuda", device),
        )
        made.memory, made.machine = memory, machine
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub is that of a disabled one
        cls, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        machine = next(
            x.machine
            for x in tree_leaves((arguments, options or {}))
            if isinstance(x, DeviceTensor)
        )
        return Dispatcher(machine).call(function, arguments, options or {})

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # torch's takes its contents
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.device})"


class Emulation(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """While it is entered, ``cuda:N`` are the devices of ``machine``."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._dispatcher = Dispatcher(machine)

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        return self._dispatcher.call(function, arguments, options or {})


class Dispatcher:
    """What becomes of an operator."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def call(self, function: Any, arguments: Any, options: dict[str, Any]) -> Any:
        """Do it now, or submit it."""
        with self.machine.lock:
            if special := SPECIAL.get(function):
                return special(self, *arguments, **options)
            if _is_view(function) and _is_composite(function):  # such as flatten: it may copy
                with Emulation(self.machine):
                    return function.decompose(*arguments, **options)
            tensors = [x for x in tree_leaves((arguments, options)) if isinstance(x, Tensor)]
            there = [x for x in tensors if isinstance(x, DeviceTensor)]
            wanted = options.get("device")
            device = torch.device(wanted) if wanted is not None else None
            if device is not None and device.type == "cuda":
                index = self.machine.current if device.index is None else device.index
            elif there and device is None:
                index = _index(there[0])
            else:
                return function(*arguments, **options)
            self._check_places(index, tensors, made=device is not None)
            options = {k: v for k, v in options.items() if k not in ("device", "pin_memory")}
            if _is_view(function):
                # A view of an ordinary tensor is none of inference mode's, also within it.
                with torch.inference_mode(there[0].is_inference()):
                    views = function(*_memories(arguments), **_memories(options))
                    return self._wrap(views, there[0])
            return self._submit(function, arguments, options, index)

    def _check_places(self, index: int, tensors: Sequence[Tensor], *, made: bool) -> None:
        for tensor in tensors:
            if isinstance(tensor, DeviceTensor):
                right = made or _index(tensor) == index
            else:
                right = made or tensor.dim() == 0  # a number may come along
            if not right:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but got cuda:{index} and "
                    f"{tensor.device}"
                )

    def _submit(self, function: Any, arguments: Any, options: dict[str, Any], index: int) -> Any:
        stream = self.machine.stream_of(index)
        memories, named = _memories(arguments), _memories(options)
        compute = SUBSTITUTES.get(function, function)
        written = _written(function, arguments)
        if written is not None:
            stream.submit(lambda: compute(*memories, **named))
            self.machine.check_launch()
            return written
        if function in DATA_DEPENDENT:
            self.machine.wait(stream.mark(), str(function))
            found = compute(*memories, **named)
            return self.new(found, index) if isinstance(found, Tensor) else found
        shapes = compute(*_metas(arguments), **_metas(options), **_factory(function))
        results = tree_map(lambda x: self.empty(x, index) if isinstance(x, Tensor) else x, shapes)
        if function in UNWRITTEN:
            return results
        targets = [x.memory for x in tree_leaves(results) if isinstance(x, DeviceTensor)]

        def run() -> None:
            found = compute(*memories, **named)
            for target, value in zip(targets, tree_leaves(found), strict=True):
                target.copy_(value)

        stream.submit(run)
        self.machine.check_launch()
        return results

    def empty(self, like: Tensor, index: int) -> DeviceTensor:
        """New memory on a device; what is read of it before it is written is no number."""
        device = self.machine.devices[index]
        size = like.numel() * like.element_size()
        device.allocate(size)
        memory = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype, device="cpu")
        poison(memory)
        made = DeviceTensor(memory, self.machine, index)
        weakref.finalize(made, device.free, size).atexit = False
        return made

    def new(self, value: Tensor, index: int) -> DeviceTensor:
        """A tensor of the device with that value already."""
        made = self.empty(value, index)
        made.memory.copy_(value)
        return made

    def _wrap(self, views: Any, base: DeviceTensor) -> Any:
        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            made = DeviceTensor(x, self.machine, _index(base))
            made.base = base  # whose memory is not free as long as a view of it lives
            return made

        return tree_map(wrap, views)

    # ── what crosses between host and device ─────────────────────────────────────────────────────

    def copy_(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        """``aten.copy_``, in each direction."""
        ends = [x for x in (target, source) if isinstance(x, DeviceTensor)]
        if not ends:
            return aten.copy_.default(target, source, non_blocking)  # type: ignore[no-any-return]
        stream = self.machine.stream_of(_index(ends[0]))
        to, of = _memories(target), _memories(source)
        host = [x for x in (target, source) if not isinstance(x, DeviceTensor)]
        at_once = bool(host) and not (non_blocking and is_pinned(host[0]))
        if at_once and non_blocking and host[0] is source:
            of, at_once = of.clone(), False  # pageable memory is read before the call returns
        stream.submit(lambda: to.copy_(of))
        if at_once:
            self.machine.wait(stream.mark(), "a copy of pageable memory")
        return target

    def to_copy(self, source: Tensor, **options: Any) -> Tensor:
        """``aten._to_copy``, in each direction."""
        non_blocking = options.pop("non_blocking", False)
        device = torch.device(options.pop("device", None) or source.device)
        memory = _memories(source)
        shape = aten._to_copy.default(memory.to("meta"), **options)
        if device.type != "cuda":
            if not isinstance(source, DeviceTensor):
                return aten._to_copy.default(source, device=device, **options)  # type: ignore[no-any-return]
            out: Tensor = torch.empty_strided(shape.size(), shape.stride(), dtype=shape.dtype)
            if non_blocking:
                remember_pinned(out)  # as torch makes it
        else:
            index = self.machine.current if device.index is None else device.index
            out = self.empty(shape, index)
        return self.copy_(out, source, non_blocking)

    def scalar(self, tensor: Tensor) -> Any:
        """``.item()`` and what comes down to it."""
        if not isinstance(tensor, DeviceTensor):
            return aten._local_scalar_dense.default(tensor)
        mark = self.machine.stream_of(_index(tensor)).mark()
        self.machine.wait(mark, "a number that the host reads")
        return tensor.memory.item()

    def pin(self, tensor: Tensor, device: Any = None) -> Tensor:
        """``.pin_memory()``: on the current device, whose context it needs."""
        self.machine.devices[self.machine.current].is_used = True
        pinned = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
        remember_pinned(pinned.copy_(tensor))
        return pinned

    def is_pinned(self, tensor: Tensor, device: Any = None) -> bool:
        """``.is_pinned()``."""
        return is_pinned(tensor)


_pinned: set[int] = set()
"""Addresses of host memory that is pinned."""


def remember_pinned(memory: Tensor) -> None:
    """It is pinned as long as it lives."""
    address = memory.untyped_storage().data_ptr()
    _pinned.add(address)
    weakref.finalize(memory.untyped_storage(), _pinned.discard, address).atexit = False


def is_pinned(tensor: Tensor) -> bool:
    """Whether a host tensor lies in pinned memory."""
    return tensor.untyped_storage().data_ptr() in _pinned


def poison(memory: Tensor) -> None:
    """Fill memory with what no program has computed."""
    if memory.is_floating_point():
        memory.fill_(float("nan"))
    elif memory.dtype == torch.bool:
        memory.fill_(True)
    else:
        memory.fill_(torch.iinfo(memory.dtype).max - 1)


def _index(tensor: Tensor) -> int:
    assert tensor.device.index is not None
    return tensor.device.index


def _is_composite(function: Any) -> bool:
    """Whether it is nothing but other operators."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), key)


def _is_view(function: Any) -> bool:
    returns = function._schema.returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _written(function: Any, arguments: Any) -> Any:
    """The argument that an operator changes in place; ``None`` if it makes something new."""
    for parameter, value in zip(function._schema.arguments, arguments, strict=False):
        if parameter.alias_info is not None and parameter.alias_info.is_write:
            return value
    return None


def _memories(values: Any) -> Any:
    return tree_map(lambda x: x.memory if isinstance(x, DeviceTensor) else x, values)


def _metas(values: Any) -> Any:
    def meta(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="meta")

    return tree_map(meta, values)


def _factory(function: Any) -> dict[str, Any]:
    takes = any(a.name == "device" for a in function._schema.arguments)
    return {"device": "meta"} if takes else {}


def _convolution_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, stride, padding, dilation, groups))


def _convolution_add_relu(
    x: Tensor, weight: Tensor, z: Tensor, alpha: Any, bias: Tensor | None, *geometry: Any
) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, *geometry) + (1 if alpha is None else alpha) * z)


def _batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, *saved = aten.native_batch_norm.default(x, weight, bias, mean, variance, *rest)
    channels = [s if s.numel() else x.new_zeros(x.shape[1]) for s in saved]
    return out, channels[0], channels[1], x.new_empty(0, dtype=torch.uint8)


def _wide_product(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
    return torch.bmm(a.to(out_dtype), b.to(out_dtype))


SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    aten.cudnn_convolution_relu.default: _convolution_relu,
    aten.cudnn_convolution_add_relu.default: _convolution_add_relu,
    aten.cudnn_batch_norm.default: _batch_norm,
    aten.bmm.dtype: _wide_product,
}
"""What the CPU computes for operators that only CUDA has."""

SPECIAL: dict[Any, Callable[..., Any]] = {
    aten.copy_.default: Dispatcher.copy_,
    aten._to_copy.default: Dispatcher.to_copy,
    aten._local_scalar_dense.default: Dispatcher.scalar,
    aten.item.default: Dispatcher.scalar,
    aten.is_nonzero.default: lambda here, tensor: bool(here.scalar(tensor)),
    aten._pin_memory.default: Dispatcher.pin,
    aten.is_pinned.default: Dispatcher.is_pinned,
}
"""Operators in which host and device meet."""
