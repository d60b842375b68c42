"""GSoP-ResNets: residual networks whose blocks are gated by second-order statistics.

    images ─ stem ─ layer1 ─ layer2 ─ layer3 ─ layer4 ─ head ─ logits
                      └gates   └gates   └gates   └gates

Residual networks: He et al. (arXiv 1512.03385), with the stride in the 3×3 convolution; the gates:
Gao et al. (arXiv 1811.12006). What is built is said by :class:`GSoPResNetConfig` alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from gsop.model.config import BlockKind, GSoPResNetConfig
from gsop.model.gating import Gated, Given, make_gating
from gsop.model.gsop import GateParts
from gsop.model.heads import HEADS


class GSoPOutput(NamedTuple):
    """What a network answers.

    Attributes:
        logits: (N, num_classes), in float32 at least.
        gates: by name, in the order of ``gate_layout``: ``layer1.2.channel`` (N, C),
            ``layer1.2.position`` (N, H, W). In float32 at least, between 0 and 1.
    """

    logits: Tensor
    gates: dict[str, Tensor]


class Rectifier(nn.Module):
    """ReLU of a tensor that nothing else needs: in its own memory, but for training."""

    def forward(self, fresh: Tensor) -> Tensor:
        """max(0, ``fresh``), element by element."""
        return F.relu(fresh, inplace=not self.training)


class ResidualBlock(nn.Module):
    """relu(gate(residual branch) + shortcut). A subclass says what its residual branch is.

    Args:
        in_channels: of the block's input.
        channels: C, of its output.
        stride: of the block.
        gating: gates the residual branch before the shortcut is added.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, gating: nn.Module) -> None:
        super().__init__()
        self.gate = gating
        self.relu = Rectifier()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels)))

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The BN that the residual branch ends with."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """The residual branch, (N, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor, given: Given = None) -> Gated:
        """The block's output (N, C, H, W), and its gates by kind; those given, where they are."""
        b, gates = self.gate(self.residual(x), given)
        y: Tensor = self.relu(b + self.shortcut(x))
        return y, gates


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions: depths 18 and 34."""

    def __init__(self, in_channels: int, channels: int, stride: int, gating: nn.Module) -> None:
        super().__init__(in_channels, channels, stride, gating)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = Rectifier()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """``bn2``."""
        return self.bn2

    def residual(self, x: Tensor) -> Tensor:
        """Two 3×3 convolutions, (N, C, H, W)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        b: Tensor = self.bn2(self.conv2(x))  # (N, C, H, W)
        return b


class Bottleneck(ResidualBlock):
    """1×1, 3×3, 1×1 convolutions, the middle one on C/4 channels: depths 50, 101 and 152."""

    def __init__(self, in_channels: int, channels: int, stride: int, gating: nn.Module) -> None:
        super().__init__(in_channels, channels, stride, gating)
        width = channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = Rectifier()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = Rectifier()
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """``bn3``."""
        return self.bn3

    def residual(self, x: Tensor) -> Tensor:
        """Reduce, convolve, restore, (N, C, H, W)."""
        x = self.relu1(self.bn1(self.conv1(x)))  # (N, C/4, H·stride, W·stride)
        x = self.relu2(self.bn2(self.conv2(x)))  # (N, C/4, H, W)
        b: Tensor = self.bn3(self.conv3(x))  # (N, C, H, W)
        return b


class PreactivationBottleneck(nn.Module):
    """A bottleneck with BN and ReLU before each convolution (arXiv 1603.05027): depth 164.

    A projecting shortcut shares the first BN and ReLU; any other takes the block's input as it is,
    and nothing follows the addition.

    Args:
        in_channels: of the block's input.
        channels: C, of its output.
        stride: of the block.
        gating: gates the residual branch before the shortcut is added.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, gating: nn.Module) -> None:
        super().__init__()
        width = channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = Rectifier()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = Rectifier()
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.gate = gating
        self.projects = stride != 1 or in_channels != channels
        self.shortcut: nn.Module = nn.Identity()
        if self.projects:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def residual(self, x: Tensor) -> Tensor:
        """Reduce, convolve, restore, (N, C, H, W)."""
        return self._convolved(F.relu(self.bn1(x)))

    def _convolved(self, active: Tensor) -> Tensor:
        b = self.conv1(active)  # (N, C/4, H·stride, W·stride)
        b = self.conv2(self.relu2(self.bn2(b)))  # (N, C/4, H, W)
        restored: Tensor = self.conv3(self.relu3(self.bn3(b)))  # (N, C, H, W)
        return restored

    def forward(self, x: Tensor, given: Given = None) -> Gated:
        """The block's output (N, C, H, W), and its gates by kind; those given, where they are."""
        active = F.relu(self.bn1(x))
        b, gates = self.gate(self._convolved(active), given)
        return b + self.shortcut(active if self.projects else x), gates


BLOCKS: dict[BlockKind, Callable[[int, int, int, nn.Module], nn.Module]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preactivation": PreactivationBottleneck,
}
"""The residual blocks: (in_channels, channels, stride, gating) to a module."""


def below(given: Given, name: str) -> Given:
    """Those of the gates whose names begin with ``name.``, by the rest of their names."""
    if given is None:
        return None
    return {
        key.removeprefix(f"{name}."): g for key, g in given.items() if key.startswith(f"{name}.")
    }


class Stage(nn.ModuleList):
    """Residual blocks of one width; the first strides."""

    def __init__(self, config: GSoPResNetConfig, stage: int) -> None:
        make_block = BLOCKS[config.backbone.block]
        in_channels = config.stage_channels[stage - 1] if stage else config.base_width
        stride = config.stage_strides[stage]
        blocks = []
        for index in range(config.backbone.blocks[stage]):
            gating = make_gating(config, stage, index)
            blocks.append(make_block(in_channels, config.stage_channels[stage], stride, gating))
            in_channels, stride = config.stage_channels[stage], 1
        super().__init__(blocks)

    def forward(self, x: Tensor, given: Given = None) -> Gated:
        """The stage's output (N, C, H, W), and its gates by ``<block>.<kind>``, as those given."""
        gates: dict[str, Tensor] = {}
        for index, block in enumerate(self):
            x, block_gates = block(x) if given is None else block(x, below(given, str(index)))
            gates.update({f"{index}.{kind}": gate for kind, gate in block_gates.items()})
        return x, gates


class GSoPResNet(nn.Module):
    """A GSoP-ResNet.

    Args:
        config: what to build.
    """

    def __init__(self, config: GSoPResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _stem(config)
        for stage in range(len(config.backbone.blocks)):
            self.add_module(f"layer{stage + 1}", Stage(config, stage))
        self.norm = _last_norm(config)
        self.head = HEADS[config.head](config)
        _initialise(self)

    def forward(self, images: Tensor, given: Mapping[str, Tensor] | None = None) -> GSoPOutput:
        """Logits and gates for normalised images.

        Args:
            images: (N, 3, height, width).
            given: gates to take instead of those that the network would compute, by name, each of
                its gate's shape with N in front. With one image it may be K: that image is then
                answered once for each of the K, and what comes before the gate is computed once.

        Raises:
            ValueError: if a gate is given that the network does not have.
        """
        x = self.stem(images)  # (N, 64, height/4, width/4), as the stem is "imagenet"
        gates: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            x, stage_gates = stage(x, below(given, name))  # (N, C, H, W)
            gates.update({f"{name}.{gate}": values for gate, values in stage_gates.items()})
        if given is not None and (unknown := sorted(given.keys() - gates.keys())):
            raise ValueError(f"no gate is called {unknown[0]}; there are {', '.join(gates)}")
        logits = self.head(self.norm(x))  # (N, num_classes)
        return GSoPOutput(logits, gates)

    def gate_parts(
        self, images: Tensor, given: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[str, GateParts]]:
        """What each gate is made of, by its name, in the order in which they are computed.

        Args:
            images: (N, 3, height, width), normalised.
            given: gates to go on with instead of those that are computed, as in :meth:`forward`.
        """
        x = self.stem(images)
        for name, stage in self.stages.items():
            blocks: Iterable[Any] = stage  # to torch, all that a module has may be a tensor
            for index, block in enumerate(blocks):
                b = block.residual(x)
                for kind, module in block.gate.named_children():
                    if kind in ("channel", "position"):
                        yield f"{name}.{index}.{kind}", module.parts(b)
                x, _ = block(x, below(below(given, name), str(index)))

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages by name: ``layer1``, ``layer2`` and so on."""
        return {name: part for name, part in self.named_children() if isinstance(part, Stage)}


def _stem(config: GSoPResNetConfig) -> nn.Module:
    width = config.base_width
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if config.stem == "imagenet":
        layers["conv"] = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    else:
        layers["conv"] = nn.Conv2d(3, width, 3, padding=1, bias=False)
    if config.backbone.block != "preactivation":
        layers["bn"] = nn.BatchNorm2d(width)
        layers["relu"] = nn.ReLU()
    if config.stem == "imagenet":
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(layers)


def _last_norm(config: GSoPResNetConfig) -> nn.Module:
    """BN and ReLU where the last block ends without."""
    if config.backbone.block != "preactivation":
        return nn.Identity()
    bn = nn.BatchNorm2d(config.stage_channels[-1])
    return nn.Sequential(OrderedDict(bn=bn, relu=nn.ReLU()))


def _initialise(network: nn.Module) -> None:
    """He-normal by fan-out for every convolution, as the authors' release does (gates included)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
