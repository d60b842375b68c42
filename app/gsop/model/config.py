"""What a GSoP-ResNet is, as data: its configuration and the gates that it returns. No torch.

The front processes and the slots need to know how long the gate vectors are before any network
exists; everything here is computed from the configuration alone.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

Depth = Literal[18, 34, 50, 101, 152, 164]
Head = Literal["gap", "isqrt"]
Attention = Literal[
    "channel", "position", "fusion_avg", "fusion_max", "fusion_concat", "se", "none"
]
Flavour = Literal["paper", "article"]
GatedBlocks = Literal["last", "all", "none"]
Stem = Literal["imagenet", "cifar"]
GateKind = Literal["channel", "position"]
BlockKind = Literal["basic", "bottleneck", "preactivation"]

GATE_KINDS: dict[Attention, tuple[GateKind, ...]] = {
    "channel": ("channel",),
    "position": ("position",),
    "fusion_avg": ("channel", "position"),
    "fusion_max": ("channel", "position"),
    "fusion_concat": ("channel", "position"),
    "se": ("channel",),
    "none": (),
}
"""The gates that a gated block returns, in order, by the kind of attention."""


@dataclass(frozen=True)
class Backbone:
    """The ResNet of one depth, without its gates.

    Attributes:
        block: ``basic`` (two 3×3 convolutions), ``bottleneck`` (1×1, 3×3, 1×1), or
            ``preactivation`` (a bottleneck with BN and ReLU before each convolution).
        blocks: residual blocks in each stage.
        base_width: channels of the first stage's 3×3 convolutions in the paper.
        stems: the stems that the depth is built with.
    """

    block: BlockKind
    blocks: tuple[int, ...]
    base_width: int = 64
    stems: tuple[Stem, ...] = ("imagenet", "cifar")


BACKBONES: dict[Depth, Backbone] = {
    18: Backbone("basic", (2, 2, 2, 2)),
    34: Backbone("basic", (3, 4, 6, 3)),
    50: Backbone("bottleneck", (3, 4, 6, 3)),
    101: Backbone("bottleneck", (3, 4, 23, 3)),
    152: Backbone("bottleneck", (3, 8, 36, 3)),
    164: Backbone("preactivation", (18, 18, 18), base_width=16, stems=("cifar",)),
}
"""The backbones by depth: ResNets (arXiv 1512.03385), and 164 of arXiv 1603.05027 for CIFAR."""


@dataclass(frozen=True)
class GSoPResNetConfig:
    """The whole description of a GSoP-ResNet; a version's manifest carries one.

    Attributes:
        depth: 18 and 34 have two 3×3 convolutions a block, 50 and more are bottlenecks; 164 is
            the three-stage pre-activation network for CIFAR.
        head: ``gap`` (global average pool, GSoP-Net1) or ``isqrt`` (covariance and its matrix
            square root, GSoP-Net2).
        attention: the kind of gate: of the channels, of the positions, or a fusion of both; to
            compare with, ``se`` (squeeze-and-excitation) or ``none`` (a plain ResNet).
        flavour: ``paper`` computes what the authors' release does, ``article`` the plug-in block.
        gated_blocks: which residual blocks of a gated stage carry a gate. ``none`` here and in
            ``attention`` mean the same, and either sets both.
        reduced_dim: channels d that the covariance is taken over (d×d).
        stem: ``imagenet`` (7×7/2 and max pool, for 224×224) or ``cifar`` (3×3, for 32×32).
        num_classes: length of the logits.
        base_width: channels of the first stage's 3×3 convolutions; 0 stands for the paper's
            number and is replaced by it (16 at depth 164, else 64). Stage i has
            ``base_width · 2^i``.
        last_stride: stride of the last stage: 1 in the paper, 2 in torchvision's ResNets.
        head_dim: channels that the ``isqrt`` head takes its covariance over; 256 in the paper.

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
    base_width: int = 0
    last_stride: Literal[1, 2] = 1
    head_dim: int = 256

    def __post_init__(self) -> None:
        self._check_choices()
        if "none" in (self.attention, self.gated_blocks):
            object.__setattr__(self, "attention", "none")
            object.__setattr__(self, "gated_blocks", "none")
        if self.base_width == 0:
            object.__setattr__(self, "base_width", self.backbone.base_width)
        for name in ("reduced_dim", "num_classes", "base_width", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        self._check_combination()

    def _check_choices(self) -> None:
        for name, kind in (
            ("depth", Depth),
            ("head", Head),
            ("attention", Attention),
            ("flavour", Flavour),
            ("gated_blocks", GatedBlocks),
            ("stem", Stem),
            ("last_stride", Literal[1, 2]),
        ):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(map(str, get_args(kind)))
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {choices}")

    def _check_combination(self) -> None:
        if self.attention not in ("channel", "none") and self.flavour == "article":
            raise ValueError("the article's block gates channels only: attention must be 'channel'")
        if self.stem not in self.backbone.stems:
            raise ValueError(
                f"depth {self.depth} is built for small images: stem must be "
                f"{' or '.join(map(repr, self.backbone.stems))}"
            )
        if self.attention == "fusion_concat":
            for channels in self.stage_channels:
                if channels >= 128 and channels % 64:
                    raise ValueError(
                        f"fusion_concat convolves in groups of 64 channels, which {channels} is no "
                        "multiple of: base_width must be a multiple of 64"
                    )

    @property
    def backbone(self) -> Backbone:
        """The ResNet that the gates are put into."""
        return BACKBONES[self.depth]

    @property
    def expansion(self) -> int:
        """Output channels of a block per channel of its 3×3 convolution."""
        return 1 if self.backbone.block == "basic" else 4

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        width = self.base_width * self.expansion
        return tuple(width << stage for stage in range(len(self.backbone.blocks)))

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Strides with which the stages begin."""
        return (1, *[2] * (len(self.backbone.blocks) - 2), self.last_stride)

    @property
    def gated_stages(self) -> range:
        """Indices of the stages that carry gates: all, or all but the last under ``isqrt``."""
        return range(len(self.backbone.blocks) - (self.head == "isqrt"))

    @property
    def gate_kinds(self) -> tuple[GateKind, ...]:
        """The kinds of gate that a gated block returns, in order."""
        return GATE_KINDS[self.attention]

    def is_gated(self, stage: int, block: int) -> bool:
        """Whether block ``block`` of stage ``stage`` (both from 0) carries a gate."""
        if self.gated_blocks == "none" or stage not in self.gated_stages:
            return False
        return self.gated_blocks == "all" or block == self.backbone.blocks[stage] - 1


@dataclass(frozen=True)
class GateSpec:
    """One gate that the network returns.

    Attributes:
        stage: ``layer1``, ``layer2``, …
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
        return prod(self.shape)


def stage_sizes(config: GSoPResNetConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each stage's output for images of ``height`` × ``width``."""
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
        for stage, blocks in enumerate(config.backbone.blocks)
        for block in range(blocks)
        if config.is_gated(stage, block)
        for kind in config.gate_kinds
    )
