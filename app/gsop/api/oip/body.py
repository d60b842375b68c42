"""Bodies of ``POST /v2/models/{name}/infer``: JSON, and raw tensors behind it. Pure.

With the protocol's binary extension, the JSON is as long as the header
``Inference-Header-Content-Length`` says, and what follows are the tensors that have a
``binary_data_size``, one after the other.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
    ValidationError,
)

from gsop.api.oip.outputs import Answer, Output
from gsop.api.oip.request import (
    InferenceRequest,
    Parameters,
    WantedOutput,
    classes_of,
    milliseconds,
)
from gsop.api.oip.tensors import (
    BYTES,
    DATATYPES,
    MOST_DIMENSIONS,
    MOST_TENSORS,
    MOST_VALUES,
    Tensor,
    check_shape,
)
from gsop.errors import RequestError

LENGTH_HEADER = "Inference-Header-Content-Length"


def _plain(value: Any) -> Parameters:
    """Parameters as they came; of many that are wrong the first is enough to tell."""
    if not isinstance(value, dict):
        raise ValueError("parameters are an object")  # pydantic passes that one on
    if not all(isinstance(one, bool | int | float | str) for one in value.values()):
        raise ValueError("each parameter is a number, a text, true or false")
    return value


_Parameters = Annotated[Parameters, PlainValidator(_plain)]


class _Input(BaseModel):
    name: StrictStr
    shape: Annotated[list[StrictInt], Field(max_length=MOST_DIMENSIONS)]
    datatype: StrictStr
    parameters: _Parameters = {}
    data: Any = None


class _Output(BaseModel):
    name: StrictStr
    parameters: _Parameters = {}


class _Request(BaseModel):
    id: StrictStr = ""
    parameters: _Parameters = {}
    inputs: Annotated[list[_Input], Field(max_length=MOST_TENSORS)]
    outputs: Annotated[list[_Output], Field(max_length=MOST_TENSORS)] = []


def parse(body: bytes, length: str | None) -> InferenceRequest:
    """A request's body.

    Args:
        body: JSON, and raw tensors behind it.
        length: the header that tells how long the JSON is; ``None``: it is all.

    Raises:
        RequestError: if it is not as the protocol has it.
    """
    end = json_bytes(length, len(body))
    text = body[:end]
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise RequestError("the JSON holds too many values; send tensors as binary data")
    try:
        request = _Request.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request is not JSON ({error})") from error
    except ValidationError as error:
        raise RequestError(f"the request is not as the protocol has it: {_told(error)}") from error
    return InferenceRequest(
        id=request.id,
        inputs=_tensors(request.inputs, memoryview(body)[end:]),
        outputs=[_wanted(output) for output in request.outputs],
        timeout_ms=milliseconds(request.parameters),
        binary=_is_set(request.parameters, "binary_data_output") or False,
    )


def json_bytes(length: str | None, most: int) -> int:
    """How many bytes of a body are its JSON.

    Args:
        length: the header that tells; ``None``: all.
        most: bytes of the body.

    Raises:
        RequestError: if it tells no such number.
    """
    if length is None:
        return most
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= most):
        raise RequestError(f"{LENGTH_HEADER} must be the JSON's bytes, at most the body's {most}")
    return int(length)


def write(answer: Answer) -> tuple[bytes, int | None]:
    """An answer's body, and how long the JSON before its raw tensors is, if it has some."""
    outputs, tensors = [], []
    for output in answer.outputs:
        entry, raw = _entry(output)
        outputs.append(entry)
        if raw is not None:
            tensors.append(raw)
    head: dict[str, Any] = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "parameters": answer.parameters,
        "outputs": outputs,
    }
    if answer.id:
        head["id"] = answer.id
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *tensors]), len(text)) if tensors else (text, None)


def _entry(output: Output) -> tuple[dict[str, Any], bytes | None]:
    entry: dict[str, Any] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": output.shape,
    }
    if output.binary:
        raw = output.raw()
        return entry | {"parameters": {"binary_data_size": len(raw)}}, raw
    return entry | {"data": output.values()}, None


def _tensors(inputs: Sequence[_Input], rest: memoryview) -> list[Tensor]:
    tensors, at = [], 0
    for entry in inputs:
        if entry.datatype != BYTES and entry.datatype not in DATATYPES:
            raise RequestError(f"input {entry.name!r} has a datatype that is not known")
        shape = check_shape(entry.name, entry.shape)
        size = entry.parameters.get("binary_data_size")
        if size is None:
            tensors.append(Tensor(entry.name, entry.datatype, shape, data=entry.data))
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest) - at:
            raise RequestError(
                f"input {entry.name!r} has a binary_data_size that is no number of bytes, or more "
                f"than the {len(rest) - at} that are left"
            )
        if entry.data is not None:
            raise RequestError(f'input {entry.name!r} has both "data" and binary_data_size')
        tensors.append(Tensor(entry.name, entry.datatype, shape, raw=rest[at : at + size]))
        at += size
    if at != len(rest):
        raise RequestError(f"{len(rest) - at} bytes follow the last tensor; no input names them")
    return tensors


def _wanted(output: _Output) -> WantedOutput:
    return WantedOutput(
        output.name, classes_of(output.parameters), _is_set(output.parameters, "binary_data")
    )


def _is_set(parameters: Parameters, name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"the parameter {name!r} must be true or false")
    return value


def _told(error: ValidationError) -> str:
    """What is wrong first, without what a client wrote there."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'][:4]))}: {first['msg']}"[:300]
