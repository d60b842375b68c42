"""What is seen of a run: the meter, rows of the log, held-out and broken images."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from gsop.errors import SetupError
from gsop.model.config import gate_layout
from gsop.train import watch
from gsop.train.data.dataset import Sample
from gsop.train.data.loader import Part
from gsop.train.data.variants import encode_png
from gsop.train.evaluate import Score
from gsop.train.fabric import make_fabric
from gsop.train.recipe import Recipe
from gsop.train.watch import (
    Meter,
    Seen,
    Totals,
    check_finite,
    columns,
    make_row,
    note_broken,
    score_held_out,
)
from tests.train.conftest import always, in_two_processes

CPU = torch.device("cpu")
SEEN = Seen(loss=0.5, accuracy=0.75, images=64, seconds=2.0, waiting=0.5)


def metered(*losses: float) -> Meter:
    """After a part of three images for each loss, two of them named right."""
    meter = Meter.at_zero(CPU)
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    for loss in losses:
        meter.add(torch.tensor(loss), logits, torch.tensor([0, 1, 0]))
    return meter


def test_a_meter_reads_means_over_what_it_has_counted(recipe: Recipe) -> None:
    meter = replace(metered(1.0, 2.0), seconds=4.0, waiting=1.0)
    seen = meter.read(make_fabric(recipe, "cpu"))
    assert seen == Seen(loss=1.5, accuracy=4 / 6, images=6, seconds=4, waiting=1)


def read(fabric: Fabric, recipe: Recipe) -> Seen:
    losses = (1.0, 2.0) if fabric.global_rank == 0 else (6.0,)
    return replace(metered(*losses), seconds=1.0 + fabric.global_rank).read(fabric)


@pytest.mark.slow
def test_two_processes_read_the_same_but_for_their_times(recipe: Recipe) -> None:
    first, second = in_two_processes(recipe, read)
    assert first == Seen(loss=3.0, accuracy=6 / 9, images=9, seconds=1, waiting=0)
    assert second == first._replace(seconds=2)


def test_totals_add_up_what_was_seen() -> None:
    totals = Totals(seconds=10.0, waiting=1.0)
    totals.add(SEEN)
    totals.add(SEEN._replace(loss=0.25))
    assert (totals.loss, totals.seconds, totals.waiting) == (0.25, 14, 2)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_leads_nowhere_says_what_to_do(loss: float) -> None:
    check_finite(1e30, 7)
    with pytest.raises(SetupError, match=rf"the loss is {loss} at step 7: lower the learning"):
        check_finite(loss, 7)


def test_a_row_has_the_log_s_columns(recipe: Recipe) -> None:
    gates = {gate.name: torch.rand(4, 3) for gate in gate_layout(recipe.config, 16, 16)}
    row = make_row(
        SEEN,
        gates,
        step=9,
        epoch=1.5,
        images=144,
        seconds=20.0,
        learning_rate=0.01,
        held_out=None,
        plain=Score(3, 4, (), 2.0),
    )
    assert tuple(row) == columns(recipe)
    assert row["images_per_second"] == 32
    assert row["waiting"] == 0.25
    assert row["held_out_top1"] is None
    assert (row["plain_top1"], row["plain_loss"]) == (0.75, 0.5)
    assert "plain_top1" not in columns(recipe.model_copy(update={"ema_decay": 0.0}))
    name, gate = next(iter(gates.items()))
    assert row[f"{name}.mean"] == pytest.approx(float(gate.mean()))
    assert row[f"{name}.spread"] == pytest.approx(float(gate.std()))


def samples() -> list[Sample]:
    """Seven of class 1 and three of class 0, of which the last cannot be read."""
    image = encode_png(np.zeros((8, 8), np.uint8))
    found = [Sample(image, int(number < 7), str(number)) for number in range(9)]
    return [*found, Sample(b"no image", 0, "broken")]


def test_held_out_images_are_scored_some_at_a_time(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SCORED_AT_A_TIME", 4)
    fabric = make_fabric(recipe, "cpu")
    found = score_held_out(fabric, always(recipe, 1), recipe.input, samples())
    assert found[:3] == (7, 9, ("broken",))
    with pytest.raises(SetupError, match="none of the held-out images can be read"):
        score_held_out(fabric, always(recipe, 1), recipe.input, samples()[9:])


def scored(fabric: Fabric, recipe: Recipe) -> Score:
    watch.SCORED_AT_A_TIME = 3  # in a process of its own
    return score_held_out(fabric, always(recipe, 1), recipe.input, samples())


@pytest.mark.slow
def test_two_processes_share_the_held_out_images(recipe: Recipe) -> None:
    # The first takes images 0-2 and 6-8, the second 3-5 and the one that cannot be read.
    first, second = in_two_processes(recipe, scored)
    assert first[:3] == (7, 9, ())
    assert second[:3] == (7, 9, ("broken",))
    assert first.loss == second.loss


def test_scoring_leaves_each_layer_in_its_mode(recipe: Recipe) -> None:
    model = always(recipe, 1).train()
    model.get_submodule("layer1").eval()  # as of a stage that is frozen
    modes = [layer.training for layer in model.modules()]
    assert len(set(modes)) == 2
    score_held_out(make_fabric(recipe, "cpu"), model, recipe.input, samples())
    assert [layer.training for layer in model.modules()] == modes


def batch_with(*broken: Sequence[str]) -> list[Part]:
    return [Part(torch.empty(0), torch.empty(0), tuple(names)) for names in broken]


def test_a_broken_image_is_named_once() -> None:
    known, said = {"a"}, list[str]()
    batch = batch_with("ab", "bc")
    note_broken(batch, known, images=300, max_broken=0.01, say=said.append)
    assert known == {"a", "b", "c"}
    assert said == [f"skipped, as it cannot be read: {name}" for name in "bc"]


@pytest.mark.parametrize(("images", "most"), [(5, 10), (100, 10), (150, 15)])
def test_too_many_broken_images_stop_the_run(images: int, most: int) -> None:
    names = [f"{number:02}" for number in range(most + 1)]
    broken = set[str]()
    note_broken(batch_with(names[:-1]), broken, images=images, max_broken=0.1, say=print)
    with pytest.raises(
        SetupError,
        match=rf"{most + 1} of {images} images cannot be read, more than max_broken \(10.00%\) "
        "allows; among them 00, 01, 02, 03, 04: mend",
    ):
        note_broken(batch_with(names), broken, images=images, max_broken=0.1, say=print)
