import numpy as np
import pytest
import torch

from gsop.images import InputSpec
from gsop.train.data.dataset import Sample
from gsop.train.data.variants import encode_png
from gsop.train.evaluate import measure, normalise, score
from gsop.train.recipe import Recipe
from tests.train.conftest import always

CPU = torch.device("cpu")


def test_the_score_counts_what_is_right(recipe: Recipe) -> None:
    image = encode_png(np.zeros((8, 8), np.uint8))
    samples = [Sample(image, label) for label in (0, 1, 1, 0, 1)]
    for batch_size in (1, 2, 64):
        counted = score(always(recipe, 1), recipe.input, samples, device=CPU, batch_size=batch_size)
        assert counted[:3] == (3, 5, ())
        assert counted.loss == pytest.approx((3 * 0.3133 + 2 * 1.3133) / 5, abs=1e-4)
        assert counted.top1 == pytest.approx(0.6)


def test_what_cannot_be_read_is_named_and_left_out(recipe: Recipe) -> None:
    image = encode_png(np.zeros((8, 8), np.uint8))
    samples = [Sample(image, 1, "good"), Sample(b"no image", 1, "bad"), Sample(image, 0, "wrong")]
    counted = score(always(recipe, 1), recipe.input, samples, device=CPU)
    assert counted[:3] == (1, 2, ("bad",))
    nothing = score(always(recipe, 1), recipe.input, samples[1:2], device=CPU)
    assert np.isnan(nothing.top1)


def test_the_network_is_scored_in_evaluation_mode(recipe: Recipe) -> None:
    model = always(recipe, 0).train()
    score(model, recipe.input, recipe.open_data().held_out(), device=CPU)
    assert not model.training


def test_pixels_are_normalised_channel_by_channel() -> None:
    spec = InputSpec(height=2, width=3, resize=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    pixels = torch.arange(36, dtype=torch.uint8).view(2, 2, 3, 3)
    found = normalise(pixels, spec)
    assert found.shape == (2, 3, 2, 3)
    assert found[1, 2, 1, 0].item() == pytest.approx((29 / 255 - 0.3) / 0.125)


def test_metrics_say_what_was_measured_and_how(recipe: Recipe) -> None:
    data = recipe.open_data()
    metrics, temperature = measure(always(recipe, 1), recipe.input, data, device=CPU)
    assert (metrics["top1"], metrics["correct"], metrics["samples"]) == (0.5, 12, 24)
    assert metrics["dataset"] == f"{data.source['dataset']}, held-out part"
    assert metrics["how"].startswith("of each class 20%")
    assert metrics["robustness"] == {}
    # Half are right, and it says 0.73 (logits of 0 and 1) of each: it is to be less sure.
    assert metrics["calibration"]["error_before"] == pytest.approx(0.231, abs=1e-3)
    assert metrics["calibration"]["samples"] == 24
    assert temperature > 5
