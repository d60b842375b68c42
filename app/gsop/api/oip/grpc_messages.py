"""Inference requests and answers as gRPC's messages. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from gsop.api.oip import inference_pb2 as pb
from gsop.api.oip.outputs import Answer
from gsop.api.oip.request import (
    InferenceRequest,
    Parameter,
    WantedOutput,
    classes_of,
    milliseconds,
)
from gsop.api.oip.tensors import (
    BYTES,
    DATATYPES,
    MOST_TENSORS,
    MOST_VALUES,
    Tensor,
    check_shape,
    pack_elements,
)
from gsop.errors import RequestError

_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where a tensor of each datatype lies that did not come raw."""


def read(message: Any) -> InferenceRequest:
    """What a ``ModelInferRequest`` asks.

    Raises:
        RequestError: if it is not as the protocol has it.
    """
    raw = message.raw_input_contents
    if max(len(message.inputs), len(message.outputs)) > MOST_TENSORS:
        raise RequestError(f"a request has at most {MOST_TENSORS} inputs, and as many outputs")
    if raw and len(raw) != len(message.inputs):
        raise RequestError(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs; send one for each, "
            "or none"
        )
    return InferenceRequest(
        id=message.id,
        inputs=[
            _tensor(entry, raw[at] if raw else None) for at, entry in enumerate(message.inputs)
        ],
        outputs=[
            WantedOutput(output.name, classes_of(parameters(output.parameters)))
            for output in message.outputs
        ],
        timeout_ms=milliseconds(parameters(message.parameters)),
        binary=True,
    )


def write(answer: Answer) -> Any:
    """An answer as a ``ModelInferResponse``; its tensors are raw."""
    message = pb.ModelInferResponse(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id
    )
    for name, value in answer.parameters.items():
        message.parameters[name].string_param = str(value)
    for output in answer.outputs:
        message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        message.raw_output_contents.append(output.raw())
    return message


def parameters(entries: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters as plain values; those without one are left out."""
    found: dict[str, Parameter] = {}
    for name, entry in entries.items():
        choice = entry.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(entry, choice)
    return found


def _tensor(entry: Any, raw: bytes | None) -> Tensor:
    if entry.datatype != BYTES and entry.datatype not in DATATYPES:
        raise RequestError(f"input {entry.name!r} has a datatype that is not known")
    shape = check_shape(entry.name, entry.shape)
    if raw is not None:
        if entry.HasField("contents"):
            raise RequestError(f"input {entry.name!r} has both contents and raw_input_contents")
        return Tensor(entry.name, entry.datatype, shape, raw=memoryview(raw))
    field = _CONTENTS.get(entry.datatype)
    if field is None:
        raise RequestError(f"{entry.datatype} comes in raw_input_contents alone")
    values: Sequence[Any] = getattr(entry.contents, field)
    if len(values) > MOST_VALUES:
        raise RequestError(
            f"input {entry.name!r} has too many values in contents; send it in raw_input_contents"
        )
    if entry.datatype == BYTES:
        return Tensor(entry.name, BYTES, shape, raw=memoryview(pack_elements(values)))
    return Tensor(entry.name, entry.datatype, shape, data=list(values))
