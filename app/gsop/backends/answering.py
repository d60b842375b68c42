"""What torch computes for a batch: pixels in, answers out, in one module."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gsop.errors import SetupError
from gsop.model.folding import fold_batch_norms
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import Manifest
from gsop.store.store import load

TINY, BELOW_ONE = torch.finfo(torch.float32).tiny, 1 - 2**-24
"""The least and the greatest float32 that are surely inside of (0, 1)."""


class Answering(nn.Module):
    """All that is computed for a batch: pixels in, probabilities and gates out, in one tensor.

    It makes the network its own: batch norms are folded into their convolutions.

    Args:
        manifest: of the model version.
        network: the model, whose weights are changed.
        dtype: that the network computes in; what needs float32 keeps it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, manifest: Manifest, network: GSoPResNet, dtype: torch.dtype) -> None:
        super().__init__()
        fold_batch_norms(network.eval())
        self.network = network.requires_grad_(False).to(dtype)
        self.dtype = dtype
        self.layout = manifest.answer
        self.temperature = manifest.temperature
        mean, std = torch.tensor(manifest.input.mean), torch.tensor(manifest.input.std)
        # (pixel / 255 - mean) / std as one multiply-add
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:  # (N, H, W, 3) uint8
        """Answers, ``(N, width)`` float32."""
        pixels = images.permute(0, 3, 1, 2)  # (N, 3, H, W), channels last
        normalised = torch.addcmul(self.shift, pixels.float(), self.scale)
        output = self.network(normalised.to(self.dtype))
        logits = output.logits.float()
        if self.temperature != 1:
            logits = logits / self.temperature
        probabilities = logits.softmax(dim=1)
        gates = [output.gates[gate.name].float().flatten(1) for gate in self.layout.gates]
        # A sigmoid lies in (0, 1); rounding to float32 must not put it on the border.
        inside = [torch.cat(gates, dim=1).clamp(TINY, BELOW_ONE)] if gates else []
        answer: Tensor = self.layout.assemble(probabilities, inside, _side_by_side)
        return answer


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=1)


def load_expected(folder: Path, expected: Manifest) -> GSoPResNet:
    """The network of the version in ``folder``, verified, on the CPU.

    Raises:
        SetupError: if it cannot be loaded, or is not the version that is expected.
    """
    manifest, network = load(folder)
    if manifest != expected:
        raise SetupError(
            f"{manifest.name}/{manifest.version} was replaced since the service started: "
            "start the service again"
        )
    return network
