"""What a model answers with, as tensors of the Open Inference Protocol. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.api.oip.request import InferenceRequest, Parameter, WantedOutput
from gsop.api.oip.tensors import BYTES, pack_elements
from gsop.errors import RequestError
from gsop.gates.answers import AnswerLayout, Values
from gsop.keys import Caller, KeyScope

PROBABILITIES = "probabilities"

GATE = "gate."
"""Begins the name of each gate's output; the gate's own follows, such as ``layer1.2.channel``."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OutputSpec:
    """An output that a model has.

    Attributes:
        name: of it.
        shape: of one image's; before it comes how many images there are.
        is_gate: whether it tells of gates.
    """

    name: str
    shape: tuple[int, ...]
    is_gate: bool = False


def outputs_of(layout: AnswerLayout, caller: Caller) -> list[OutputSpec]:
    """Those of a model that a caller may see, in order."""
    specs = [OutputSpec(PROBABILITIES, (layout.classes,))]
    if caller.scopes & {KeyScope.ATTENTION, KeyScope.ADMIN}:
        specs += [OutputSpec(GATE + gate.name, gate.shape, is_gate=True) for gate in layout.gates]
    return specs


def check(wanted: Sequence[WantedOutput], layout: AnswerLayout, caller: Caller) -> None:
    """Whether a caller can have the outputs that it asks for.

    Raises:
        RequestError: if the model has no such output, or one is asked for twice.
        Forbidden: if the caller may not see it.
    """
    names = {output.name for output in wanted}
    if len(names) != len(wanted):
        raise RequestError("an output is asked for twice")
    names.discard(PROBABILITIES)
    if not names:  # as most requests have it
        return
    seen = {spec.name for spec in outputs_of(layout, caller)}
    gates = {GATE + gate.name for gate in layout.gates}
    for output in wanted:
        if output.name in seen:
            continue
        if output.name in gates:
            caller.require(KeyScope.ATTENTION, f"output {output.name!r}")
        raise RequestError(
            f"the model has no output {output.name[:100]!r}; it has {', '.join(sorted(seen))}"
        )


@dataclass(frozen=True)
class Output:
    """One output of an answer.

    Attributes:
        name: of it.
        array: of numbers, ``(N, …)``; or ``(N, k)`` of bytes, where classes are asked for.
        binary: whether it goes out raw.
    """

    name: str
    array: npt.NDArray[Any]
    binary: bool

    @property
    def datatype(self) -> str:
        """As the protocol calls it."""
        return BYTES if self.array.dtype == object else "FP32"

    @property
    def shape(self) -> list[int]:
        """``[N, …]``."""
        return list(self.array.shape)

    def raw(self) -> bytes:
        """Its elements as raw bytes, rows first."""
        if self.array.dtype == object:
            return pack_elements(self.array.ravel().tolist())
        return np.ascontiguousarray(self.array, "<f4").tobytes()

    def values(self) -> list[str] | Floats:
        """Its elements for JSON, flat, rows first."""
        if self.array.dtype == object:
            return [element.decode() for element in self.array.ravel()]
        return np.ascontiguousarray(self.array).ravel()


@dataclass(frozen=True)
class Answer:
    """What a request is answered with.

    Attributes:
        id: the request's.
        model_name: as the request named it.
        model_version: the version that answered.
        parameters: what else is told.
        outputs: the tensors.
    """

    id: str
    model_name: str
    model_version: str
    parameters: Mapping[str, Parameter]
    outputs: Sequence[Output]


def make_outputs(
    request: InferenceRequest, layout: AnswerLayout, values: Floats, caller: Caller
) -> list[Output]:
    """The outputs that a request asks for.

    Args:
        request: what it asks.
        layout: of the version that answered.
        values: its answers, ``(N, width)``.
        caller: who asks.

    Raises:
        RequestError: as :func:`check`: the version may be another one than it was asked for.
        Forbidden: as well.
    """
    wanted = request.outputs or [WantedOutput(s.name) for s in outputs_of(layout, caller)]
    check(wanted, layout, caller)
    arrays: dict[str, Values] = {PROBABILITIES: layout.probabilities(values)}
    if any(output.name != PROBABILITIES for output in wanted):
        arrays |= {GATE + gate.name: part for gate, part in layout.gates_of(values)}
    return [
        Output(
            output.name,
            _in_words(arrays[output.name], output, layout)
            if output.classes
            else arrays[output.name],
            request.binary if output.binary is None else output.binary,
        )
        for output in wanted
    ]


def _in_words(array: Values, output: WantedOutput, layout: AnswerLayout) -> npt.NDArray[Any]:
    """The largest numbers of each row in order: ``value:index``, and the class's label."""
    rows = array.reshape(len(array), -1)
    count = min(output.classes, rows.shape[1])
    labels = layout.labels if not output.name.startswith(GATE) else None
    words = np.empty((len(rows), count), object)
    for at, row in enumerate(rows):
        places = np.sort(np.argpartition(row, -count)[-count:])
        best = places[np.argsort(-row[places], kind="stable")]
        for rank, (place, number) in enumerate(zip(best.tolist(), row[best].tolist(), strict=True)):
            text = f"{number:f}:{place}"
            words[at, rank] = (f"{text}:{labels[place]}" if labels else text).encode()
    return words
