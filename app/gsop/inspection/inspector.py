"""A stored network under study: its gates taken apart, replaced, and switched one by one.

Nothing is hooked or kept: the network's blocks are walked one after the other
(:meth:`gsop.model.resnet.GSoPResNet.gate_parts`), and gates are replaced by handing the network
others (:meth:`~gsop.model.resnet.GSoPResNet.forward`). It computes in float64, on the CPU.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gsop.images import Pixels
from gsop.inspection.views import Ablated, Doubles, GateView, Look, Switched, Way
from gsop.model.config import GateSpec, stage_sizes
from gsop.model.gsop import GateParts
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest
from gsop.store.store import load

ALL = "all"
"""Stands for all stages together."""

BATCH_BYTES = 1 << 28
"""Of the gated tensors that are computed side by side while channels are switched."""

Gates = dict[str, Tensor]
Report = Callable[[int], object]
"""Is told how many of a gate's channels were switched, as they are."""


class Inspector:
    """Answers questions about single images.

    Args:
        manifest: of the version.
        network: of the version; from now on this inspector's own, in float64 and eval mode.
    """

    def __init__(self, manifest: Manifest, network: GSoPResNet) -> None:
        self.manifest = manifest
        self.network = network.requires_grad_(False).double().eval()
        self.layout = manifest.answer

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The inspector of a stored version, which is verified.

        Raises:
            StoreError: if it cannot be loaded.
        """
        return cls(*load(folder))

    @property
    def stages(self) -> list[str]:
        """The stages that carry gates."""
        return list(dict.fromkeys(spec.stage for spec in self.layout.gates))

    def normalised(self, pixels: Pixels) -> Tensor:
        """An image ``(H, W, 3)`` as the network takes it, (1, 3, H, W)."""
        mean, std = (torch.tensor(values).double() for values in self._mean_and_std)
        image = (torch.from_numpy(pixels.copy()).double() / 255 - mean) / std
        return image.permute(2, 0, 1)[None]

    @property
    def _mean_and_std(self) -> tuple[Sequence[float], Sequence[float]]:
        return self.manifest.input.mean, self.manifest.input.std

    @torch.inference_mode()
    def look(self, pixels: Pixels) -> Look:
        """One image, seen from inside.

        Args:
            pixels: ``(H, W, 3)`` uint8, as the version's input is.
        """
        image = self.normalised(pixels)
        logits, gates = self.network(image)
        parts = dict(self.network.gate_parts(image))
        views = [_view(spec, gates[spec.name], parts[spec.name]) for spec in self.layout.gates]
        probabilities = self._probabilities(logits)
        return Look(
            self.layout, pixels.copy(), _numbers(logits), _numbers(probabilities), tuple(views)
        )

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Of logits (N, classes), as the version answers."""
        return (logits / self.manifest.temperature).softmax(1)

    @torch.inference_mode()
    def ablate(self, pixels: Pixels, other: Pixels | None = None) -> Iterator[Ablated]:
        """What the answer would be with the gates of one stage, and of all, replaced.

        Args:
            pixels: of the image.
            other: of another one, whose gates are put in too.
        """
        image = self.normalised(pixels)
        gates = self.network(image).gates
        replacements: dict[Way, Gates] = {
            "open": {name: torch.ones_like(gate) for name, gate in gates.items()},
            "closed": {name: torch.zeros_like(gate) for name, gate in gates.items()},
            "mean": {name: torch.full_like(g, float(g.mean())) for name, g in gates.items()},
        }
        if other is not None:
            replacements["other"] = self.network(self.normalised(other)).gates
        for stage in (*self.stages, *([ALL] if len(self.stages) > 1 else [])):
            for way, all_gates in replacements.items():
                names = [s.name for s in self.layout.gates if stage in (s.stage, ALL)]
                given = {name: all_gates[name] for name in names}
                logits = self.network(image, given).logits
                yield Ablated(stage, way, _numbers(logits), _numbers(self._probabilities(logits)))

    @torch.inference_mode()
    def switch(
        self, pixels: Pixels, gate: str, *, to: float = 0.0, report: Report = lambda _: None
    ) -> Switched:
        """What the answer would be with each channel of a gate switched alone.

        Each channel costs what follows the gate in the network; what precedes it is computed once
        a batch.

        Args:
            pixels: of the image.
            gate: its name; a gate of channels.
            to: what the channel's gate is set to: 0 closes it, 1 opens it.
            report: is told how many channels were switched, batch by batch.

        Raises:
            ValueError: if there is no such gate of channels.
        """
        spec = self.channel_gate(gate)
        image = self.normalised(pixels)
        logits, gates = self.network(image)
        class_id = int(logits.argmax())
        rows = []
        for chosen in torch.split(torch.arange(spec.size), self._batch(spec)):
            given = gates[gate].repeat(len(chosen), 1)
            given[torch.arange(len(chosen)), chosen] = to
            rows.append(self.network(image, {gate: given}).logits)
            report(len(chosen))
        switched = torch.cat(rows)
        before = self._probabilities(logits)[0, class_id]
        after = self._probabilities(switched)[:, class_id]
        return Switched(
            spec,
            to,
            class_id,
            (float(logits[0, class_id]), float(before)),
            switched[:, class_id].contiguous().numpy(),
            after.contiguous().numpy(),
            switched.argmax(1).numpy(),
        )

    def channel_gate(self, name: str) -> GateSpec:
        """The gate of channels of that name.

        Raises:
            ValueError: if there is none.
        """
        channels = {spec.name: spec for spec in self.layout.gates if spec.kind == "channel"}
        if name not in channels:
            there = ", ".join(channels) or "none in this network"
            raise ValueError(f"no gate of channels is called {name!r}; there are: {there}")
        return channels[name]

    def _batch(self, spec: GateSpec) -> int:
        """How many channels of a gate are switched side by side."""
        sizes = stage_sizes(
            self.network.config, self.manifest.input.height, self.manifest.input.width
        )
        height, width = sizes[list(self.network.stages).index(spec.stage)]
        return max(1, BATCH_BYTES // (8 * spec.size * height * width))


def _view(spec: GateSpec, gate: Tensor, parts: GateParts) -> GateView:
    return GateView(
        spec,
        _numbers(gate),
        _numbers(parts.logits),
        None if parts.features is None else _numbers(parts.features),
        None if parts.matrix is None else _numbers(parts.matrix),
    )


def _numbers(tensor: Tensor) -> Doubles:
    """Those of the one image of a batch."""
    return np.asarray(tensor[0].numpy(), np.float64)
