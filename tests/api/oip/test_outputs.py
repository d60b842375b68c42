"""Which outputs there are for whom, and what they hold."""

import numpy as np
import pytest

from gsop.api.oip.outputs import check, make_outputs, outputs_of
from gsop.api.oip.request import InferenceRequest, WantedOutput
from gsop.errors import Forbidden, RequestError
from gsop.gates.answers import AnswerLayout
from gsop.keys import ANYBODY, Caller, KeyScope
from gsop.model.config import GateSpec

GATES = (
    GateSpec("layer1", "layer1.1", "channel", (3,)),
    GateSpec("layer2", "layer2.1", "position", (1, 2)),
)
LAYOUT = AnswerLayout(("zero", "on:e"), GATES)
VALUES = np.array([[0.25, 0.75, 1, 2, 3, 4, 5], [0.5, 0.5, 6, 7, 8, 9, 10]], np.float32)
SHOP = Caller("shop", 1, frozenset({KeyScope.PREDICT}))
NAMES = ["probabilities", "gate.layer1.1.channel", "gate.layer2.1.position"]


def asked(*outputs: WantedOutput) -> InferenceRequest:
    return InferenceRequest("", [], outputs)


def test_gates_are_for_those_who_may_see_them() -> None:
    assert [spec.name for spec in outputs_of(LAYOUT, ANYBODY)] == NAMES
    assert [spec.name for spec in outputs_of(LAYOUT, SHOP)] == NAMES[:1]
    with pytest.raises(Forbidden, match="attention"):
        check([WantedOutput(NAMES[1])], LAYOUT, SHOP)


def test_who_asks_for_nothing_gets_all_that_there_is_for_them() -> None:
    outputs = make_outputs(asked(), LAYOUT, VALUES, ANYBODY)
    assert [(o.name, o.datatype, o.shape) for o in outputs] == [
        (NAMES[0], "FP32", [2, 2]),
        (NAMES[1], "FP32", [2, 3]),
        (NAMES[2], "FP32", [2, 1, 2]),
    ]
    assert outputs[2].raw() == np.array([4, 5, 9, 10], "<f4").tobytes()
    assert [o.name for o in make_outputs(asked(), LAYOUT, VALUES, SHOP)] == NAMES[:1]


def test_classes_come_in_words_the_likeliest_first() -> None:
    wanted = asked(WantedOutput(NAMES[0], classes=9), WantedOutput(NAMES[1], classes=1))
    classes, gates = make_outputs(wanted, LAYOUT, VALUES, ANYBODY)
    assert (classes.datatype, classes.shape) == ("BYTES", [2, 2])
    assert classes.values() == [
        *("0.750000:1:on:e", "0.250000:0:zero"),
        *("0.500000:0:zero", "0.500000:1:on:e"),
    ]
    assert gates.values() == ["3.000000:2", "8.000000:2"]


@pytest.mark.parametrize("wanted", [["nothing"], [NAMES[0], NAMES[0]]])
def test_what_the_model_does_not_have_is_refused(wanted: list[str]) -> None:
    with pytest.raises(RequestError):
        check([WantedOutput(name) for name in wanted], LAYOUT, ANYBODY)
