"""Convolutions with their weights laid out for the CPU once, instead of in each call.

oneDNN, with which torch convolves, wants weights in blocks that suit the processor's vectors, and
torch's own layers give them as they are stored: each call then lays them out anew, 100 MB of them
in a ResNet-50. For a batch of one that is a sixth of the time (docs/performance.md). What suits an
image alone is not what suits several, so both are kept, for twice the memory.
"""

import platform
from typing import cast

import torch
from torch import Tensor, nn

from gsop.model.resnet import BasicBlock, Bottleneck, PreactivationBottleneck

X86 = ("x86_64", "AMD64")

RECTIFIED: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    nn.Sequential: (("conv", "relu"),),  # stems
    BasicBlock: (("conv1", "relu1"),),
    Bottleneck: (("conv1", "relu1"), ("conv2", "relu2")),
    PreactivationBottleneck: (("conv1", "relu2"), ("conv2", "relu3")),
}
"""Convolutions, and the ReLU that directly follows each once BNs are folded, by the module that has
both: the convolution rectifies what it still has at hand, instead of another pass over memory."""


class PackedConv2d(nn.Module):
    """A convolution for inference, in oneDNN's own layouts.

    Args:
        conv: whose place it takes; with zeros around the image, if any.
        input_shape: of what it will see, (C, H, W); others are right, too.
        rectifies: whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, input_shape: tuple[int, ...], *, rectifies: bool) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)  # noqa: S101  # the networks give numbers
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        # No parameters: the layouts are opaque, and nothing but the convolution can read them.
        self._alone, self._together = (
            torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight.detach(), *self._geometry, [batch, *input_shape]
            )
            for batch in (1, 2)
        )
        self._then = "relu" if rectifies else "none"
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of (N, C, H, W), channels last."""
        weight = self._alone if len(x) == 1 else self._together
        convolved: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, self._bias, *self._geometry, self._then, [], None
        )
        return convolved


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has the operators, which are those of its compiler, for this processor.

    In bfloat16 they need vectors that not every processor has; torch's own layers do without.
    """
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return (
        platform.machine() in X86
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # untyped
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def pack_convolutions(model: nn.Module, example: Tensor) -> None:
    """Pack, in place, every convolution that a forward of ``example`` reaches.

    The model answers the same, sooner. It can no longer be trained, moved or saved.

    Args:
        model: in eval mode, on the CPU, in the precision that it will compute in, its BNs folded.
        example: what it is called with: of the size that will be, in a batch of any.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[module] = tuple(inputs[0].shape[1:])

    hooks = [
        module.register_forward_pre_hook(note)
        for module in model.modules()
        if type(module) is nn.Conv2d  # a subclass computes in its own way
    ]
    with torch.inference_mode():
        model(example)
    for hook in hooks:
        hook.remove()
    for parent in list(model.modules()):
        relus = dict(RECTIFIED.get(type(parent), ()))
        for name, child in list(parent.named_children()):
            if child in shapes:
                relu = relus.get(name)
                rectifies = relu is not None and hasattr(parent, relu)
                packed = PackedConv2d(cast("nn.Conv2d", child), shapes[child], rectifies=rectifies)
                setattr(parent, name, packed)
                if relu is not None and rectifies:
                    setattr(parent, relu, nn.Identity())
