"""Bodies and messages of the Open Inference Protocol that lie, as many as are wanted."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from gsop.api.oip import inference_pb2 as pb
from gsop.api.oip.tensors import pack_elements

Body = tuple[bytes, str | None]
"""A body, and the header that tells how long its JSON is."""

_NUMBERS = (-1, 0, 1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64)
_VALUES: tuple[Any, ...] = (None, True, "", "x", [], {}, [[]], 1.5, 1e300, -1, 2**64, "\ud800", "é")
_HEADERS = ("", "-1", "+5", "0", "1", "1e3", "0x10", "9" * 400, "१२", "5 ", "4294967296")
_TYPES = ("BYTES", "UINT8", "FP16", "FP32", "FP64", "INT64", "BOOL", "STRING", "", "fp32")


def parts(image: bytes) -> tuple[dict[str, Any], bytes]:
    """A request that is as it should be: the JSON's members, and the tensor behind them."""
    raw = pack_elements([image])
    told = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": told}
    wanted = {"name": "probabilities", "parameters": {"classification": 3, "binary_data": True}}
    return {"id": "1", "inputs": [tensor], "outputs": [wanted]}, raw


def body(members: dict[str, Any], raw: bytes) -> Body:
    """A body of these, with the header that is right for them."""
    head = json.dumps(members).encode()
    return head + raw, str(len(head))


def hostile_body(chance: random.Random, image: bytes) -> Body:
    """One more of them; a few are harmless, as a byte that changes need not matter."""
    return chance.choice(_BODIES)(chance, image)


def _sizes(chance: random.Random, image: bytes) -> Body:
    members, raw = parts(image)
    near = len(raw) + chance.randint(-5, 5)
    size = chance.choice((*_NUMBERS, near, *_VALUES))
    members["inputs"][0]["parameters"]["binary_data_size"] = size
    return body(members, raw)


def _shapes(chance: random.Random, image: bytes) -> Body:
    members, raw = parts(image)
    tensor = members["inputs"][0]
    tensor["shape"] = [chance.choice(_NUMBERS) for _ in range(chance.randint(0, 12))]
    tensor["datatype"] = chance.choice(_TYPES)
    return body(members, raw)


def _prefixes(chance: random.Random, image: bytes) -> Body:
    members, raw = parts(image)
    count = chance.randint(1, 5)
    lengths = (chance.choice((0, 1, 2**31, 2**32 - 1, len(image), 4)) for _ in range(count))
    raw = b"".join(struct.pack("<I", n) + image[: chance.randint(0, 20)] for n in lengths)
    members["inputs"][0] |= {
        "shape": [chance.choice((1, count))],
        "parameters": {"binary_data_size": len(raw)},
    }
    return body(members, raw)


def _header(chance: random.Random, image: bytes) -> Body:
    whole, length = body(*parts(image))
    near = str(int(length or 0) + chance.randint(-300, 300))
    return whole, chance.choice((*_HEADERS, near, None))


def _values(chance: random.Random, image: bytes) -> Body:
    members, raw = parts(image)
    place: Any = chance.choice(
        (
            *(members, members["inputs"][0], members["inputs"][0]["parameters"]),
            *(members["outputs"][0], members["outputs"][0]["parameters"]),
        )
    )
    name = chance.choice((*place, "data", "parameters", "binary_data_output", "classification"))
    place[name] = chance.choice((*_VALUES, *_NUMBERS))
    return body(members, raw)


def _many(chance: random.Random, image: bytes) -> Body:
    members, raw = parts(image)
    which = chance.choice(("inputs", "outputs"))
    members[which] *= chance.choice((0, 2, 255, 257, 5000))
    return body(members, raw)


def _bombs(chance: random.Random, image: bytes) -> Body:
    count = chance.choice((10, 1000, 100_000))
    data = chance.choice(("[" * count, "[" * count + "]" * count, "[" + "1," * count + "1]"))
    head = '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": '
    return f"{head}{data}}}]}}".encode(), None


def _pixels(chance: random.Random, image: bytes) -> Body:
    side = chance.choice((1, 31, 32, 32, 32, 33))
    shape = [chance.choice((*_NUMBERS, 1, 1, 1)), 3, 32, side]
    if chance.random() < 0.2:
        chance.shuffle(shape)
    size = 3 * 32 * side
    tensor: dict[str, Any] = {"name": "pixels", "shape": shape, "datatype": chance.choice(_TYPES)}
    if chance.random() < 0.3:
        value = chance.choice((*_VALUES, *_NUMBERS))
        return body({"inputs": [tensor | {"data": [value] * chance.choice((size, 9))}]}, b"")
    raw = chance.randbytes(size * chance.choice((1, 1, 4)) + chance.choice((0, 0, 0, -1, 1)))
    tensor["parameters"] = {"binary_data_size": len(raw)}
    return body({"inputs": [tensor, *[tensor] * chance.choice((0, 0, 0, 1))]}, raw)


def _flips(chance: random.Random, image: bytes) -> Body:
    whole, length = body(*parts(image))
    return _flipped(chance, whole), length


def _cuts(chance: random.Random, image: bytes) -> Body:
    whole, length = body(*parts(image))
    begin, end = sorted(chance.choices(range(len(whole) + 1), k=2))
    return chance.choice((whole[:end], whole[begin:], whole[:begin] + whole[end:])), length


_BODIES: tuple[Callable[[random.Random, bytes], Body], ...] = (
    *(_sizes, _shapes, _prefixes, _header, _values, _many, _bombs, _pixels, _flips, _cuts),
)


def message(image: bytes) -> Any:
    """A ``ModelInferRequest`` that is as it should be."""
    made = pb.ModelInferRequest(model_name="digits", id="1")
    made.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    made.outputs.add(name="probabilities")
    made.raw_input_contents.append(pack_elements([image]))
    return made


def pixels_message(values: Any, *, typed: bool) -> Any:
    """A ``ModelInferRequest`` with pixels, raw or as values."""
    datatype = "FP32" if values.dtype.kind == "f" else "UINT8"
    made = pb.ModelInferRequest(model_name="digits")
    tensor = made.inputs.add(name="pixels", datatype=datatype, shape=values.shape)
    if typed:
        contents = tensor.contents
        field = contents.fp32_contents if datatype == "FP32" else contents.uint_contents
        field.extend(values.ravel().tolist())
    else:
        made.raw_input_contents.append(values.tobytes())
    return made


def hostile_message(chance: random.Random, image: bytes) -> bytes:
    """A message, or bytes that are none; a few are harmless."""
    made = message(image)
    match chance.randrange(9):
        case 0:
            made.inputs[0].shape[:] = [
                chance.choice([n for n in _NUMBERS if n < 2**63])
                for _ in range(chance.randint(0, 12))
            ]
            made.inputs[0].datatype = chance.choice(_TYPES)
        case 1:
            made.raw_input_contents[0] = (
                struct.pack("<I", chance.choice((0, 2**32 - 1))) + image[:9]
            )
        case 2:
            made.raw_input_contents.extend([b"x"] * chance.choice((1, 1000)))
        case 3:
            made.inputs[0].contents.bytes_contents.extend([image] * chance.choice((1, 40)))
            if chance.random() < 0.5:
                del made.raw_input_contents[:]
        case 4:
            made.outputs[0].parameters["classification"].int64_param = chance.choice((-1, 2**62))
            made.parameters["timeout"].string_param = chance.choice(("-1", "x", "9" * 400))
        case 5:
            for _ in range(chance.choice((255, 5000))):
                made.outputs.add(name=chance.choice(("probabilities", "", "x" * 1000)))
        case 6:
            return bytes(_hostile_pixels(chance).SerializeToString())
        case 7:  # what would swell
            field = chance.choice((b"\x2a", b"\x32", b"\x3a", b"\x22"))
            return field + b"\x00" + (field + b"\x00") * chance.choice((10, 5000, 2**20))
        case _:
            return _flipped(chance, made.SerializeToString())
    return bytes(made.SerializeToString())


def _hostile_pixels(chance: random.Random) -> Any:
    made = pb.ModelInferRequest(model_name="digits")
    shape = [chance.choice((1, 1, 0, -1, 2**62)), 3, 32, chance.choice((32, 32, 31))]
    tensor = made.inputs.add(name="pixels", datatype=chance.choice(_TYPES), shape=shape)
    size = 3 * 32 * 32 + chance.choice((0, 0, 1, 300_000))
    match chance.randrange(3):
        case 0:
            made.raw_input_contents.append(chance.randbytes(size))
        case 1:
            tensor.contents.uint_contents.extend([chance.choice((0, 255, 256, 2**32 - 1))] * size)
        case _:
            numbers = (0.0, 1.0, 1.5, float("nan"), float("inf"))
            tensor.contents.fp32_contents.extend([chance.choice(numbers)] * size)
    return made


def _flipped(chance: random.Random, whole: bytes) -> bytes:
    changed = bytearray(whole)
    for _ in range(chance.choice((1, 3, 30))):
        changed[min(len(whole) - 1, int(chance.expovariate(0.005)))] = chance.randrange(256)
    return bytes(changed)
