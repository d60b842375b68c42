"""What a network costs: parameters and multiply-adds, and how much of them is the gates."""

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet


@dataclass(frozen=True)
class Cost:
    """The cost of one image.

    Attributes:
        parameters: numbers that are learnt.
        multiply_adds: of the convolutions and matrix products; BN, ReLU and sums are not counted.
        gate_parameters: those of the gates and their fusion.
        gate_multiply_adds: those of the gates and their fusion.
    """

    parameters: int
    multiply_adds: int
    gate_parameters: int
    gate_multiply_adds: int

    @property
    def gate_share(self) -> float:
        """The gates' share of the multiply-adds, 0 to 1."""
        return self.gate_multiply_adds / self.multiply_adds


def cost(config: GSoPResNetConfig, height: int, width: int) -> Cost:
    """The cost of ``config`` for one image of ``height`` × ``width``; nothing is computed."""
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = GSoPResNet(config).eval()
        model(torch.empty(1, 3, height, width))
    counted = counter.get_flop_counts()
    parameters = {name: tensor.numel() for name, tensor in model.named_parameters()}
    return Cost(
        parameters=sum(parameters.values()),
        multiply_adds=counter.get_total_flops() // 2,  # a multiply-add is two operations
        gate_parameters=sum(size for name, size in parameters.items() if ".gate." in name),
        gate_multiply_adds=sum(
            sum(operations.values())
            for module, operations in counted.items()
            if module.endswith(".gate")
        )
        // 2,
    )
