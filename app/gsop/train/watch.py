"""What is counted of a run while it goes on."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Meter:
    """Sums since the last row of the log. Those on the device are read only for a row."""

    loss: Tensor
    correct: Tensor
    images: int = 0
    parts: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one part: its mean loss, its logits (N, classes), and its labels (N,)."""
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.images += len(labels)
        self.parts += 1


@dataclass
class Totals:
    """Sums over the whole run, what came before a pause included."""

    step: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    loss: float = float("nan")
    top1: float = float("nan")
    broken: set[str] = field(default_factory=set)
