"""What a GSoP-ResNet is, as data: its configuration and the gates that it returns. No torch.

The front processes and the slots need to know how long the gate vectors are before any network
exists; everything here is computed from the configuration alone.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Depth = Literal[18, 34, 50, 101, 152]
Head = Literal["gap", "isqrt"]
Attention = Literal["channel", "position", "fusion_avg", "fusion_max", "fusion_concat"]
Flavour = Literal["paper", "article"]
GatedBlocks = Literal["last", "all", "none"]
Stem = Literal["imagenet", "cifar"]
GateKind = Literal["channel", "position"]

BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Residual blocks in each stage, by depth."""


@dataclass(frozen=True)
class GSoPResNetConfig:
    """The whole description of a GSoP-ResNet; a version's manifest carries one.

    Attributes:
        depth: 18 and 34 have two 3×3 convolutions a block, 50 and more are bottlenecks.
        head: ``gap`` (global average pool, GSoP-Net1) or ``isqrt`` (covariance and its matrix
            square root, GSoP-Net2).
        attention: the kind of gate: of the channels, of the positions, or a fusion of both.
        flavour: ``paper`` computes what the authors' release does, ``article`` the plug-in block.
        gated_blocks: which residual blocks of a gated stage carry a gate.
        reduced_dim: channels d that the covariance is taken over (d×d).
        stem: ``imagenet`` (7×7/2 and max pool, for 224×224) or ``cifar`` (3×3, for 32×32).
        num_classes: length of the logits.
        base_width: channels of the first stage's 3×3 convolutions; 64 in the paper. Stage i has
            ``base_width · 2^i``.
        last_stride: stride of the last stage: 1 in the paper, 2 in torchvision's ResNets.

    Raises:
        ValueError: on a combination that no network computes.
    """

    depth: Depth = 50
    head: Head = "gap"
    attention: Attention = "channel"
    flavour: Flavour = "paper"
    gated_blocks: GatedBlocks = "last"
    reduced_dim: int = 128
    stem: Stem = "imagenet"
    num_classes: int = 1000
    base_width: int = 64
    last_stride: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        for name, kind in (
            ("depth", Depth),
            ("head", Head),
            ("attention", Attention),
            ("flavour", Flavour),
            ("gated_blocks", GatedBlocks),
            ("stem", Stem),
        ):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(map(str, get_args(kind)))
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {choices}")
        for name in ("reduced_dim", "num_classes", "base_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride is {self.last_stride}; it can be 1 or 2")
        if self.attention != "channel" and self.flavour == "article":
            raise ValueError("the article's block gates channels only: attention must be 'channel'")

    @property
    def expansion(self) -> int:
        """Output channels of a block per channel of its 3×3 convolution."""
        return 1 if self.depth in (18, 34) else 4

    @property
    def stage_channels(self) -> tuple[int, int, int, int]:
        """Output channels of the four stages."""
        width = self.base_width * self.expansion
        return (width, 2 * width, 4 * width, 8 * width)

    @property
    def stage_strides(self) -> tuple[int, int, int, int]:
        """Strides with which the four stages begin."""
        return (1, 2, 2, self.last_stride)

    @property
    def gated_stages(self) -> range:
        """Indices of the stages that carry gates: all four, or the first three under ``isqrt``."""
        return range(3 if self.head == "isqrt" else 4)

    @property
    def gate_kinds(self) -> tuple[GateKind, ...]:
        """The kinds of gate that a gated block returns, in order."""
        if self.attention == "channel":
            return ("channel",)
        if self.attention == "position":
            return ("position",)
        return ("channel", "position")

    def is_gated(self, stage: int, block: int) -> bool:
        """Whether block ``block`` of stage ``stage`` (both from 0) carries a gate."""
        if self.gated_blocks == "none" or stage not in self.gated_stages:
            return False
        return self.gated_blocks == "all" or block == BLOCKS[self.depth][stage] - 1


@dataclass(frozen=True)
class GateSpec:
    """One gate that the network returns.

    Attributes:
        stage: ``layer1`` to ``layer4``.
        block: the residual block that the gate sits in, such as ``layer1.2``.
        kind: what is gated.
        shape: ``(C,)`` for channels, ``(H, W)`` for positions.
    """

    stage: str
    block: str
    kind: GateKind
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The gate's key in ``GSoPOutput.gates``, such as ``layer1.2.channel``."""
        return f"{self.block}.{self.kind}"

    @property
    def size(self) -> int:
        """Numbers in the gate."""
        return self.shape[0] if len(self.shape) == 1 else self.shape[0] * self.shape[1]


def stage_sizes(config: GSoPResNetConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the four stages' outputs for images of ``height`` × ``width``."""
    halvings = 2 if config.stem == "imagenet" else 0
    sizes = []
    for stride in config.stage_strides:
        for _ in range(halvings + (stride == 2)):
            height, width = (height + 1) // 2, (width + 1) // 2
        halvings = 0
        sizes.append((height, width))
    return sizes


def gate_layout(config: GSoPResNetConfig, height: int, width: int) -> tuple[GateSpec, ...]:
    """The gates that a network returns for images of ``height`` × ``width``, in network order."""
    sizes = stage_sizes(config, height, width)
    return tuple(
        GateSpec(
            stage=f"layer{stage + 1}",
            block=f"layer{stage + 1}.{block}",
            kind=kind,
            shape=(config.stage_channels[stage],) if kind == "channel" else sizes[stage],
        )
        for stage in range(4)
        for block in range(BLOCKS[config.depth][stage])
        if config.is_gated(stage, block)
        for kind in config.gate_kinds
    )
