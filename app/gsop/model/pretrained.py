"""From a plain ResNet, trained by someone else, to a GSoP-ResNet that starts where it ended."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gsop.errors import StoreError
from gsop.model.config import GSoPResNetConfig
from gsop.model.foreign_names import known_names
from gsop.model.gating import ChannelGating
from gsop.model.gsop import ArticleExcitation, Excitation
from gsop.model.official import check_fit, official_key, our_key, read_depth
from gsop.model.resnet import GSoPResNet, ResidualBlock
from gsop.model.se import SEGate

_REMEDY = "pass a whole state dict of a torchvision ResNet, and its own base_width and stem"


def from_torchvision(state_dict: Mapping[str, Tensor], config: GSoPResNetConfig) -> GSoPResNet:
    """A GSoP-ResNet that answers, before any training, as the plain backbone does.

    Every gate starts at ½ whatever the image, and the BN before it is doubled: both are powers of
    two, so their product is the backbone's residual branch to the last bit. A sigmoid is steepest
    at ½, so the gates learn at full speed at once, the last layer first and, when that is no
    longer zero, those before it. Gates biased to be open (0.9997 for an error below 1e-3) would
    answer nearly as well, but receive a gradient hundreds of times smaller.

    The backbone answers so at its own last stride, 2 in torchvision. With ``config.last_stride`` 1
    the last stage sees the same features more densely and needs fine-tuning. Where
    ``config.num_classes`` is another than the backbone's, or the head is ``isqrt``, the head
    starts anew.

    Args:
        state_dict: of one of torchvision's, timm's or transformers' ResNets, depth 18 to 152.
        config: the network to make: of the same depth, with gates of the channels, or none.

    Raises:
        StoreError: if the backbone does not fit, naming the first tensor that does not, or if the
            configuration's kind of gate cannot leave a residual branch as it is.
    """
    if "position" in config.gate_kinds:
        raise StoreError(
            f"no gate of kind {config.attention!r} leaves a residual branch as it is (it "
            "rectifies): only attention 'channel', 'se' and 'none' can start from a plain backbone"
        )
    tensors = known_names(state_dict).tensors
    depth = read_depth(tensors)
    if depth != config.depth:
        raise StoreError(f"the backbone is a ResNet-{depth}: set depth to {depth}")
    model = GSoPResNet(config)
    _load_backbone(model, tensors)
    _start_gates_at_half(model)
    return model


def _load_backbone(model: GSoPResNet, tensors: Mapping[str, Tensor]) -> None:
    own = {official_key(key): tensor for key, tensor in model.state_dict().items()}
    plain = {key: tensor for key, tensor in own.items() if ".gate." not in our_key(key)}
    if not _head_fits(plain, tensors):
        plain, tensors = _without_head(plain), _without_head(tensors)
    check_fit(tensors, plain, _REMEDY)
    model.load_state_dict({our_key(key): tensor for key, tensor in tensors.items()}, strict=False)


def _head_fits(plain: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    return "fc.weight" in tensors and tensors["fc.weight"].shape == plain["fc.weight"].shape


def _without_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not our_key(key).startswith("head.")}


@torch.no_grad()
def _start_gates_at_half(model: GSoPResNet) -> None:
    for module in model.modules():
        if isinstance(module, Excitation | ArticleExcitation | SEGate):
            module.start_at_half()
        if isinstance(module, ResidualBlock) and isinstance(module.gate, ChannelGating):
            for parameter in module.last_bn.parameters():
                parameter.mul_(2)
