import numpy as np
import pytest

from gsop.gates.answers import AnswerLayout
from gsop.gates.population import LOGIT_LIMIT, as_gates, as_logits
from gsop.gates.reference import LEAST_IMAGES, Reference
from tests.gates.populations import LAYOUT, answers, reference


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def familiarity(known: Reference, values: np.ndarray) -> np.ndarray:
    assert known.neighbours is not None
    logits = as_logits(LAYOUT.gate_values(values))
    return known.neighbours.familiarity(logits, LAYOUT.winners(values))


def test_known_images_are_spread_evenly(random: np.random.Generator) -> None:
    found = familiarity(reference(random), answers(random, 2000))
    for share in (0.05, 0.25, 0.5, 0.9):
        assert (found <= share).mean() == pytest.approx(share, abs=0.05)


def test_other_images_are_not_familiar_however_sure_the_network_is(
    random: np.random.Generator,
) -> None:
    known, others = reference(random), answers(random, 500)
    others[:, 3:] = others[random.permutation(500), 3:][:, ::-1]
    assert (familiarity(known, others) < 0.05).mean() > 0.95


def test_what_is_to_be_familiar_is(random: np.random.Generator) -> None:
    usual, also = answers(random, 400), answers(random, 400, shift=8)
    new = answers(random, 400, shift=8)
    assert (familiarity(reference(random, 400), new) < 0.05).mean() > 0.9
    both = Reference.measure(LAYOUT, usual, what="", also=also, also_groups=np.arange(400))
    assert (familiarity(both, new) < 0.05).mean() < 0.15
    assert both.population.images == 400, "drift is measured from what usually comes"


def test_a_class_that_no_image_had_is_not_familiar(random: np.random.Generator) -> None:
    known = Reference.measure(LAYOUT, answers(random, 100, classes=(0, 1)), what="")
    assert (familiarity(known, answers(random, 10, classes=(2,))) == 0).all()


def test_too_few_images_and_no_gates_are_refused(random: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="too few"):
        Reference.measure(LAYOUT, answers(random, LEAST_IMAGES - 1), what="")
    plain = AnswerLayout(tuple("abc"), ())
    with pytest.raises(ValueError, match="no gates"):
        Reference.measure(plain, answers(random, 99)[:, :3], what="")


@pytest.mark.parametrize("is_learned", [False, True])
def test_arrays_come_back_as_they_were(random: np.random.Generator, is_learned: bool) -> None:
    known = reference(random, 200)
    if is_learned:
        known = Reference.learn(LAYOUT, answers(random, 200), np.arange(200) // 50)
    again = Reference.unpack(LAYOUT, known.facts, known.arrays)
    assert again.digest == known.digest
    assert again.is_learned == is_learned


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("population.scale", 0.0),
        ("population.centre", np.nan),
        ("population.counts", -1),
        ("neighbours.typical", 0.0),
        ("neighbours.classes", 3),
        ("neighbours.known", np.inf),
    ],
)
def test_what_cannot_be_a_reference_is_refused(
    random: np.random.Generator, name: str, value: float
) -> None:
    known = reference(random, 200)
    arrays = known.arrays
    arrays[name] = np.full_like(arrays[name], value)
    with pytest.raises(ValueError):
        Reference.unpack(LAYOUT, known.facts, arrays)
    del arrays[name]
    with pytest.raises(ValueError):
        Reference.unpack(LAYOUT, known.facts, arrays)


def test_gates_that_are_shut_have_logits() -> None:
    gates = np.array([0.0, 1e-30, 0.25, 1.0], np.float32)
    logits = as_logits(gates)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() == pytest.approx(LOGIT_LIMIT, abs=0.1)
    assert as_gates(logits)[2] == pytest.approx(0.25)
