"""Batch normalisation folded into the convolution before it: fewer passes over the feature maps.

In eval mode BN is a scale and a shift of each channel, and so is part of the convolution that it
follows. BNs that follow no single convolution (after a sum, or before one) stay.
"""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gsop.model.gsop import ArticleChannelGate, ChannelGate
from gsop.model.heads import ISqrtHead
from gsop.model.position import PositionGate
from gsop.model.resnet import BasicBlock, Bottleneck, PreactivationBottleneck

PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    nn.Sequential: (("conv", "bn"),),  # stems and shortcuts
    BasicBlock: (("conv1", "bn1"), ("conv2", "bn2")),
    Bottleneck: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    PreactivationBottleneck: (("conv1", "bn2"), ("conv2", "bn3")),
    ChannelGate: (("reduce", "reduce_bn"),),
    ArticleChannelGate: (("reduce", "reduce_bn"),),
    PositionGate: (("reduce", "reduce_bn"),),
    ISqrtHead: (("reduce", "reduce_bn"),),
}
"""Convolutions, and the BN that directly follows each, by the module that has both."""


def fold_batch_norms(model: nn.Module) -> None:
    """Fold every BN that can be folded, in place: the model answers the same, sooner.

    It can no longer be trained, and its state dict fits no other. Fold before the model is moved
    to a half precision: its weights are then rounded once.

    Args:
        model: a :class:`gsop.model.resnet.GSoPResNet` or a part of one, in eval mode.

    Raises:
        ValueError: if the model is in train mode.
    """
    if model.training:
        raise ValueError("BN can only be folded in eval mode: call model.eval() first")
    for module in list(model.modules()):
        children = dict(module.named_children())
        for conv_name, bn_name in PAIRS.get(type(module), ()):
            conv, bn = children.get(conv_name), children.get(bn_name)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, bn))
                setattr(module, bn_name, nn.Identity())
