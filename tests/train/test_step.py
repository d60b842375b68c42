"""One step by itself: no folder, no log, and a network of one layer."""

import math
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gsop.model.resnet import GSoPOutput
from gsop.train import evaluate
from gsop.train.data.loader import Part
from gsop.train.evaluate import normalise
from gsop.train.fabric import make_fabric
from gsop.train.recipe import OptimizerSpec, Recipe
from gsop.train.step import loss_of, take_step, update_average
from gsop.train.watch import Meter
from tests.emulated_cuda import Machine, emulated


class OneLayer(nn.Module):
    """Logits from all pixels of an image at once; its gate is the first of them, squeezed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2 * 2 * 3, 2)

    def forward(self, images: Tensor) -> GSoPOutput:
        logits = self.layer(images.flatten(1))
        return GSoPOutput(logits, {"gate": torch.sigmoid(logits[:, :1])})


def batch_of(sizes: tuple[int, ...]) -> list[Part]:
    """The same twelve images, in parts of these sizes."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (12, 2, 2, 3), dtype=torch.uint8, generator=generator)
    labels = torch.arange(12) % 2
    return [
        Part(pixels[end - size : end], labels[end - size : end], ())
        for size, end in zip(sizes, accumulate(sizes), strict=True)
    ]


def after_a_step(recipe: Recipe, sizes: tuple[int, ...] = (12,)) -> tuple[Tensor, Meter, Tensor]:
    """One step of gradient descent at a learning rate of 0.5: weight, meter and gate."""
    fabric = make_fabric(recipe, "cpu")
    model = OneLayer()
    network, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.5))
    meter = Meter(torch.zeros(()), torch.zeros(()))
    gates = take_step(fabric, recipe, network, optimizer, batch_of(sizes), meter)
    return model.layer.weight.detach(), meter, gates["gate"]


def gradient(recipe: Recipe) -> Tensor:
    """Of the whole batch's mean loss, (2, 12)."""
    (part,) = batch_of((12,))
    model = OneLayer()
    loss = nn.functional.cross_entropy(
        model(normalise(part.pixels, recipe.input)).logits, part.labels
    )
    return torch.autograd.grad(loss, model.layer.weight)[0]


def test_the_weights_go_against_the_gradient(recipe: Recipe) -> None:
    weight, _, gate = after_a_step(recipe)
    assert torch.allclose(weight, OneLayer().layer.weight - 0.5 * gradient(recipe))
    assert gate.shape == (12, 1)
    assert not gate.requires_grad


def test_parts_are_one_step_over_all_of_their_images(recipe: Recipe) -> None:
    whole, in_parts = after_a_step(recipe), after_a_step(recipe, (4, 4, 4))
    assert torch.allclose(whole[0], in_parts[0], atol=1e-6)
    assert in_parts[2].shape == (4, 1)  # the gates are those of the last part
    assert torch.equal(in_parts[2], whole[2][8:])


def test_every_part_is_counted(recipe: Recipe) -> None:
    _, whole, _ = after_a_step(recipe)
    _, in_parts, _ = after_a_step(recipe, (4, 4, 4))
    assert (whole.parts, in_parts.parts) == (1, 3)
    assert whole.images == in_parts.images == 12
    assert 0 < float(whole.correct) == float(in_parts.correct) < 12
    assert float(in_parts.loss) / 3 == pytest.approx(float(whole.loss), abs=1e-6)
    assert not in_parts.loss.requires_grad


def test_gradients_are_bounded_together(recipe: Recipe) -> None:
    clip = OptimizerSpec(learning_rate=1, clip=0.01)
    weight, _, _ = after_a_step(recipe.model_copy(update={"optimizer": clip}))
    moved = (weight - OneLayer().layer.weight).norm()
    assert gradient(recipe).norm() > 0.01
    assert 0 < moved <= 0.5 * 0.01 + 1e-6


def test_labels_are_smoothed(recipe: Recipe) -> None:
    logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert float(loss_of(logits, labels, recipe)) == pytest.approx(right, abs=1e-6)
    smooth = recipe.model_copy(update={"label_smoothing": 0.2})
    expected = 0.9 * right + 0.1 * wrong
    assert float(loss_of(logits, labels, smooth)) == pytest.approx(expected, abs=1e-6)


def test_weights_of_classes_come_to_the_same_in_parts(recipe: Recipe) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([0.5, 2.0, 3.0])
    whole = loss_of(logits, labels, recipe, weights)
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    assert whole == pytest.approx(float((each * weights[labels]).sum()) / 6)
    halves = [
        loss_of(logits[part], labels[part], recipe, weights) for part in ([0, 1, 2], [3, 4, 5])
    ]
    assert float(sum(halves)) / 2 == pytest.approx(float(whole))
    shares = nn.functional.one_hot(labels, 3).float()  # as mixed labels come
    assert float(loss_of(logits, shares, recipe, weights)) == pytest.approx(float(whole))


@pytest.mark.parametrize(("step", "stays"), [(1, 0.1), (6, 0.4), (81, 0.9), (10_000, 0.9)])
def test_the_average_forgets_the_random_weights_and_then_moves_slowly(
    step: int, stays: float
) -> None:
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(model.weight, 3.0)
    model(torch.ones(4, 2))  # moves the running mean to 0.1
    update_average(average, model, decay=0.9, step=step)
    assert average.weight.tolist() == pytest.approx([stays + 3 * (1 - stays)] * 2)
    assert average.running_mean is not None
    assert average.running_mean.tolist() == pytest.approx([0.1 * (1 - stays)] * 2)
    assert average.num_batches_tracked == 1  # counted, not averaged
    assert model.weight.tolist() == [3, 3]


class Called(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the operators that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        self.names.append(function._schema.name.removeprefix("aten::"))
        return function(*arguments, **(options or {}))


def test_all_weights_are_averaged_in_one_call() -> None:
    """A kernel for each of hundreds is over before the next one is launched."""
    average, model = (nn.Sequential(*(nn.Linear(2, 2) for _ in range(9))) for _ in range(2))
    with Called() as seen:
        update_average(average, model, decay=0.9, step=5)
    assert [name for name in seen.names if "lerp" in name] == ["_foreach_lerp_"]


def test_no_step_sends_the_device_what_it_has(recipe: Recipe) -> None:
    """Numbers that are sent anew make the host wait for the device, each step."""
    with emulated(Machine(devices=1)) as machine:
        pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8, device="cuda")
        normalise(pixels, recipe.input)
        machine.waits.clear()
        normalise(pixels, recipe.input)
        assert machine.waits == []
    evaluate._constants.cache_clear()  # that device is gone


def test_gradients_that_are_not_finite_show_in_the_loss(recipe: Recipe) -> None:
    """And the step raises nothing by itself: to know it at once would wait for the device."""
    optimizer = recipe.optimizer.model_copy(update={"clip": 1.0})
    recipe = recipe.model_copy(update={"optimizer": optimizer})
    fabric, model = make_fabric(recipe, "cpu"), OneLayer()
    network, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.5))
    meter = Meter.at_zero(torch.device("cpu"))
    take_step(fabric, recipe, network, sgd, batch_of((12,)), meter)
    assert math.isfinite(float(meter.loss))
    model.layer.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    take_step(fabric, recipe, network, sgd, batch_of((12,)), meter)
    assert math.isnan(float(meter.loss))
