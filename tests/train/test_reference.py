from collections.abc import Sequence

import numpy as np
import pytest
import torch

from gsop.gates.answers import AnswerLayout
from gsop.model.config import GateSpec, gate_layout
from gsop.train import reference
from gsop.train.data.dataset import Sample
from gsop.train.data.variants import encode_png
from gsop.train.recipe import Recipe
from gsop.train.reference import Answered, answer_with, make_reference
from tests.train.conftest import always

LAYOUT = AnswerLayout(("a", "b"), (GateSpec("layer1", "layer1.0", "channel", (3,)),))


def numbered(count: int) -> list[Sample]:
    return [Sample(str(number).encode(), 0) for number in range(count)]


def answers(samples: Sequence[Sample]) -> Answered:
    """Each image's number decides its answer; the sevenths cannot be read."""
    numbers = [int(samples[place].image) for place in range(len(samples))]
    places = [place for place, number in enumerate(numbers) if number % 7]
    values = [np.random.default_rng(numbers[p]).uniform(0.2, 0.8, LAYOUT.width) for p in places]
    return np.array(values, np.float32).reshape(-1, LAYOUT.width), np.array(places, np.int64)


def test_of_many_images_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "MOST_IMAGES", 100)
    asked: list[int] = []

    def noting(samples: Sequence[Sample]) -> Answered:
        asked.extend(int(sample.image) for sample in samples[:])
        return answers(samples)

    made = make_reference(noting, LAYOUT, numbered(300), {}, what="numbers")
    assert asked == list(range(0, 300, 3))
    assert made is not None
    assert made.population.images == sum(number % 7 > 0 for number in asked)
    assert made.facts.what == f"{made.population.images} numbers"


def test_an_image_does_not_know_its_own_variants() -> None:
    """Else a copy of each would make all that is not a copy look strange."""
    held_out = numbered(60)
    more = [*held_out, *numbered(1)]
    own = make_reference(answers, LAYOUT, held_out, dict.fromkeys("abcdefg", held_out), what="")
    others = make_reference(answers, LAYOUT, held_out, dict.fromkeys("abcdefg", more), what="")
    assert own is not None
    assert others is not None
    assert own.neighbours is not None
    assert others.neighbours is not None
    assert others.neighbours.typical.max() < 0.1 * own.neighbours.typical.min()


def test_without_gates_or_with_few_images_there_is_none() -> None:
    assert make_reference(answers, AnswerLayout(("a", "b"), ()), numbered(99), {}, what="") is None
    assert make_reference(answers, LAYOUT, numbered(30), {}, what="") is None


def test_a_network_answers_what_can_be_read(recipe: Recipe) -> None:
    model, spec = always(recipe, 1), recipe.input
    gates = gate_layout(recipe.config, spec.height, spec.width)
    layout = AnswerLayout(tuple(map(str, range(recipe.config.num_classes))), gates)
    image = encode_png(np.zeros((8, 8), np.uint8))
    answer = answer_with(model, layout, spec, device=torch.device("cpu"))
    values, places = answer([Sample(image, 0), Sample(b"none", 0), Sample(image, 0)])
    assert places.tolist() == [0, 2]
    assert layout.winners(values).tolist() == [1, 1]
    np.testing.assert_allclose(layout.probabilities(values).sum(axis=1), 1, rtol=1e-5)
    assert answer([Sample(b"none", 0)])[0].shape == (0, layout.width)
