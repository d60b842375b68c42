"""The command line on a store of its own, and networks whose answers differ between images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import golden_numbers as golden
from gsop.__main__ import main
from gsop.model.config import GSoPResNetConfig
from gsop.model.official import to_official
from gsop.model.resnet import GSoPResNet


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def refused(self, remedy: str) -> bool:
        """Whether it ended with one line of error, in which the remedy is named."""
        assert self.err.startswith("gsop: error: "), self
        assert self.err.count("\n") == 1, self.err
        return self.status == 1 and remedy in self.err


Gsop = Callable[..., Done]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def gsop(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Gsop:
    """``gsop models …`` on the store ``root``."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Done:
        status = main(["models", *map(str, arguments), "--model-store", str(root)])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return run


def lively(config: GSoPResNetConfig) -> GSoPResNet:
    """A network with random weights, of moderate logits and with gates away from a half."""
    model = GSoPResNet(config)
    for key, tensor in to_official(model).items():
        tensor.copy_(golden.draw(key, tensor.shape))
    return model.eval()


def checkpoint_of(state_dict: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint as the authors' training script saves it."""
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=1e-4)
    optimizer.step()
    return {
        "epoch": 95,
        "arch": "resnet50",
        "state_dict": {f"module.{key}": tensor for key, tensor in state_dict.items()},
        "best_prec1": torch.tensor(77.5),
        "optimizer": optimizer.state_dict(),
    }
