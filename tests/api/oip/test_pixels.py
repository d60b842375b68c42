"""The input ``pixels``: which tensors are images, and which are refused before anything is made."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from gsop.api.oip.body import parse
from gsop.api.oip.grpc_messages import read
from gsop.api.oip.grpc_wire import MOST_FIELDS, look_over
from gsop.api.oip.tensors import MOST_VALUES
from gsop.errors import RequestError
from gsop.images.planes import PIXELS, bundle_bytes, put_pixels
from tests.api.oip.hostile import pixels_message
from tests.api.oip.test_body import MOST, SPEC

SHAPE = [2, 3, 2, 3]
BYTES = np.arange(36, dtype=np.uint8).reshape(SHAPE) * 7
Array = npt.NDArray[Any]


def as_raw(values: Array, **changed: Any) -> list[Array]:
    """What is read of a tensor behind the JSON."""
    raw = values.tobytes()
    datatype = {"uint8": "UINT8", "float32": "FP32"}.get(values.dtype.name, "FP64")
    told = {"name": "pixels", "datatype": datatype, "shape": list(values.shape)}
    told |= {"parameters": {"binary_data_size": len(raw)}} | changed
    head = json.dumps({"inputs": [told]}).encode()
    return list(parse(head + raw, str(len(head))).images(MOST, SPEC))  # type: ignore[arg-type]


def as_json(data: Any, datatype: str, shape: list[int] = SHAPE) -> list[Array]:
    tensor = {"name": "pixels", "datatype": datatype, "shape": shape, "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    return list(parse(body, None).images(MOST, SPEC))  # type: ignore[arg-type]


def as_message(values: Array, *, typed: bool) -> list[Array]:
    return list(read(pixels_message(values, typed=typed)).images(MOST, SPEC))  # type: ignore[arg-type]


def test_bytes_are_taken_as_they_are_however_they_come() -> None:
    forms = (
        as_raw(BYTES),
        as_json(BYTES.tolist(), "UINT8"),
        as_json(BYTES.ravel().tolist(), "UINT8"),
        as_message(BYTES, typed=False),
        as_message(BYTES, typed=True),
    )
    for images in forms:
        assert np.array_equal(images, BYTES)


def test_numbers_are_rounded_to_bytes_and_those_of_bytes_are_these() -> None:
    numbers = (BYTES / 255).astype(np.float32)
    forms = (
        as_raw(numbers),
        as_json(numbers.tolist(), "FP32"),
        as_message(numbers, typed=False),
        as_message(numbers, typed=True),
    )
    for images in forms:
        assert np.array_equal(images, BYTES)


@given(np_st.arrays(np.float32, (1, 3, 2, 3), elements=st.floats(0, 1, width=32)))
def test_rounding_moves_no_number_by_more_than_half_a_step(numbers: Array) -> None:
    (image,) = as_raw(numbers)
    assert np.abs(image / 255 - numbers[0]).max() <= 1 / 510 + 1e-7


@pytest.mark.parametrize(
    ("text", "send"),
    [
        ("from 0 to 1", lambda: as_raw(BYTES.astype(np.float32))),
        ("from 0 to 1", lambda: as_raw(np.full(SHAPE, -0.1, np.float32))),
        ("NaN", lambda: as_raw(np.full(SHAPE, np.nan, np.float32))),
        ("NaN", lambda: as_raw(np.array([np.inf, -np.inf] * 18, np.float32).reshape(SHAPE))),
        (r"\[N, 3, 2, 3\]", lambda: as_raw(BYTES.transpose(0, 2, 3, 1))),
        (r"\[N, 3, 2, 3\]", lambda: as_raw(BYTES[0])),
        (r"\[N, 3, 2, 3\]", lambda: as_raw(BYTES[:0])),
        (r"\[N, 3, 2, 3\]", lambda: as_raw(BYTES, shape=[])),
        ("at most 4", lambda: as_raw(BYTES, shape=[2**62, 3, 2, 3])),
        ("has 36 bytes", lambda: as_raw(BYTES, shape=[1, 3, 2, 3])),
        ("has 36 bytes", lambda: as_raw(BYTES, datatype="FP32")),
        ("UINT8 or FP32", lambda: as_raw(BYTES.astype(np.float64))),
        ("UINT8 or FP32", lambda: as_raw(BYTES, datatype="BYTES")),
        ("holds 35 values", lambda: as_json(BYTES.ravel().tolist()[1:], "UINT8")),
        ("holds more values", lambda: as_json([*BYTES.ravel().tolist(), 1], "UINT8")),
        ("whole numbers", lambda: as_json([256] * 36, "UINT8")),
        ("whole numbers", lambda: as_json([2**63] * 36, "UINT8")),
        ("whole numbers", lambda: as_json([0.5] * 36, "UINT8")),
        ("whole numbers", lambda: as_json(["1"] * 36, "UINT8")),
        ("whole numbers", lambda: as_json([None] * 36, "UINT8")),
        ("numbers of 0 to 1", lambda: as_json(["1"] * 36, "FP32")),
        ("from 0 to 1", lambda: as_json([1e300] * 36, "FP32")),
        ("must be a list", lambda: as_json("x" * 36, "UINT8")),
        ("whole numbers", lambda: as_message(BYTES.astype(np.uint32) + 250, typed=True)),
        ("'pixels', 'pixels'", lambda: _two()),
    ],
)
def test_what_is_no_image_is_refused(text: str, send: Any) -> None:
    with pytest.raises(RequestError, match=text):
        send()


def _two() -> None:
    message = pixels_message(BYTES, typed=True)
    message.inputs.append(message.inputs[0])
    read(message).images(MOST, SPEC)


@pytest.mark.parametrize("as_bundle", [False, True])
def test_pixels_lie_in_a_slot_as_decoding_puts_them(as_bundle: bool) -> None:
    out = np.ones(bundle_bytes(SPEC) if as_bundle else (2, 3, 3), np.uint8)
    put_pixels(BYTES[0], out, SPEC)
    if as_bundle:
        assert out[:28].view(np.int32)[0] == PIXELS
        out = out[32 : 32 + 18].reshape(2, 3, 3)
    assert np.array_equal(out, BYTES[0].transpose(1, 2, 0))
    with pytest.raises(ValueError, match="input of 2 x 3"):
        put_pixels(BYTES[0, :, :, :2], out, SPEC)


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\x00" * (MOST_FIELDS + 1),
        b"\x3a\x00" * (MOST_FIELDS + 1),
        b"\x2a\x80\x40" + b"\x22\x00" * (MOST_FIELDS),
        b"\x2a\x54\x1a\x52" + b"\x01" * 82,
        b"\x2a\xa5\xff\xbf\x01\x2a\xa0\xff\xbf\x01\x22\x9b\xff\xbf\x01"
        + b"\x01" * (10 * MOST_VALUES),
        b"\x2a\x05",
        b"\x08",
        b"\x0b",
        b"\xff" * 11,
        b"\x0d\x00",
    ],
)
def test_a_message_that_would_swell_is_refused_before_it_is_taken_apart(data: bytes) -> None:
    with pytest.raises(RequestError):
        look_over(data)
