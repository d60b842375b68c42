"""Bodies of the Open Inference Protocol: what they are taken for, and what a lie cannot cost."""

import json
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gsop.api.oip.body import parse, write
from gsop.api.oip.outputs import Answer, Output
from gsop.api.oip.request import LONGEST_ID, InferenceRequest
from gsop.api.oip.tensors import MOST_TENSORS, MOST_VALUES, pack_elements
from gsop.errors import RequestError
from gsop.images import InputSpec
from tests.api.oip.hostile import hostile_body

MOST = 4
SPEC = InputSpec(height=2, width=3, resize=3, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))


def binary(
    elements: list[bytes], *, shape: list[int] | None = None, size: int | None = None, **more: Any
) -> tuple[bytes, str]:
    """A body with an image tensor behind its JSON, and the header that tells of it."""
    raw = pack_elements(elements)
    told = {
        "name": "image",
        "shape": [len(elements)] if shape is None else shape,
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw) if size is None else size},
    }
    head = json.dumps({"inputs": [told], **more}).encode()
    return head + raw, str(len(head))


def parse_json(**members: Any) -> InferenceRequest:
    return parse(json.dumps(members).encode(), None)


def as_json(data: Any, shape: list[int], **more: Any) -> InferenceRequest:
    tensor = {"name": "image", "shape": shape, "datatype": "BYTES", "data": data}
    return parse_json(inputs=[tensor], **more)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_images_come_raw_behind_the_json(shape: list[int]) -> None:
    images = [b"\x89PNG one", b"two"]
    body, length = binary(images, shape=shape, id="7")
    request = parse(body, length)
    assert request.images(MOST, SPEC) == images
    assert (request.id, request.outputs, request.timeout_ms) == ("7", [], None)


@pytest.mark.parametrize(
    ("data", "shape"), [(["b25l", "dHdv"], [2]), ([["b25l"], ["dHdv"]], [2, 1])]
)
def test_images_come_as_base64_in_the_json(data: Any, shape: list[int]) -> None:
    assert as_json(data, shape).images(MOST, SPEC) == [b"one", b"two"]


def test_unknown_members_are_passed_over() -> None:
    assert as_json(["b25l"], [1], model_name="digits").images(MOST, SPEC) == [b"one"]


def test_what_is_asked_for() -> None:
    wanted = [
        {"name": "probabilities", "parameters": {"classification": 3, "binary_data": True}},
        {"name": "gate.layer1.1.channel"},
    ]
    told = {"timeout": 1500, "binary_data_output": True}
    request = as_json(["b25l"], [1], outputs=wanted, parameters=told)
    assert [(o.classes, o.binary) for o in request.outputs] == [(3, True), (0, None)]
    assert (request.timeout_ms, request.binary) == (2, True)


LIES = {
    "more bytes than there are": binary([b"one"], size=100),
    "fewer bytes than there are": binary([b"one"], size=3),
    "bytes that nobody names": (binary([b"one"])[0] + b"more", binary([b"one"])[1]),
    "a negative size": binary([b"one"], size=-1),
    "elements that are not there": binary([b"one"], shape=[2]),
    "fewer elements than there are": binary([b"one", b"two"], shape=[1]),
    "a shape without end": binary([b"one"], shape=[2**62, 2**62]),
    "a negative shape": binary([b"one"], shape=[-1]),
    "two dimensions too many": binary([b"one"], shape=[1, 1, 1]),
    "too many images": binary([b"x"] * (MOST + 1)),
    "no image": binary([]),
    "an empty image": binary([b""]),
    "a header beyond the body": (binary([b"one"])[0], "1000000"),
    "a header that is no number": (binary([b"one"])[0], "+5"),
    "a header without end": (binary([b"one"])[0], "9" * 5000),
    "a length that ends too soon": (binary([b"one"])[0][:-5], binary([b"one"])[1]),
}


@pytest.mark.parametrize("lie", LIES)
def test_whoever_lies_is_refused(lie: str) -> None:
    body, length = LIES[lie]
    with pytest.raises(RequestError):
        parse(body, length).images(MOST, SPEC)


def test_the_length_of_an_element_is_believed_only_within_its_tensor() -> None:
    raw = struct.pack("<I", 0xFFFFFFFF) + b"one"
    told = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": told}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestError, match="element 0 of input 'image' is to have 4294967295"):
        parse(head + raw, str(len(head))).images(MOST, SPEC)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [{"name": "image"}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "FP99", "data": ["eA=="]}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}]},
        {"inputs": [{"name": "other", "shape": [1], "datatype": "BYTES", "data": ["eA=="]}]},
        {"inputs": [{"name": "image", "shape": [1.5], "datatype": "BYTES", "data": ["eA=="]}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["é"]}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [1]}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": "eA=="}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [["eA=="], 1]}]},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES"}]},
    ],
)
def test_what_is_no_request_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        parse_json(**members).images(MOST, SPEC)


@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": -1},
        {"timeout": True},
        {"timeout": 10**18},
        {"timeout": "soon"},
        {"binary_data_output": 1},
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(parameters))):
        as_json(["b25l"], [1], parameters=parameters)


@pytest.mark.parametrize("text", ["[" * 100_000, "[],", "{}", "1e999", '"' * 9, "\ud800"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse(text.encode("utf-8", "surrogatepass"), None).images(MOST, SPEC)


def test_json_is_not_built_if_it_holds_too_much() -> None:
    with pytest.raises(RequestError, match="too many values"):
        parse(b'{"inputs": [' + b"[]," * MOST_VALUES, None)


MANY_WRONG: dict[str, dict[str, Any]] = {
    "parameters": {"inputs": [], "parameters": {str(at): [] for at in range(60_000)}},
    "parameters of tensors": {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {str(at): [] for at in range(250)},
            }
        ]
        * 256
    },
    "shape": {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [""] * 100_000}]},
}


@pytest.mark.parametrize("many", MANY_WRONG)
def test_of_much_that_is_wrong_little_is_noted(many: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_json(**MANY_WRONG[many])
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() <= 4 * MOST_TENSORS


def test_an_id_is_short() -> None:
    assert as_json(["b25l"], [1], id="x" * LONGEST_ID).id
    with pytest.raises(RequestError, match="id has at most"):
        as_json(["b25l"], [1], id="x" * (LONGEST_ID + 1))


@given(body=st.binary(max_size=200), length=st.none() | st.integers(-1, 300).map(str))
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_anything_else_than_to_be_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(RequestError):
        parse(body, length).images(MOST, SPEC)


def test_whatever_lie_is_refused_or_harmless() -> None:
    chance, refused = random.Random(1), 0  # noqa: S311
    for _ in range(1000):
        try:
            assert len(parse(*hostile_body(chance, b"\x89PNG one")).images(MOST, SPEC)) <= MOST
        except RequestError:
            refused += 1
    assert refused > 700


@given(images=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=MOST))
def test_what_was_packed_is_read_again(images: list[bytes]) -> None:
    assert parse(*binary(images)).images(MOST, SPEC) == images


def test_an_answer_has_raw_tensors_behind_its_json() -> None:
    numbers = np.array([[1, 2], [3, 4]], np.float32)
    words = np.array([[b"1.5:0:zero"], [b"2.5:1:one"]], object)
    outputs = [
        Output("a", numbers, binary=True),
        Output("b", numbers.reshape(2, 1, 2), binary=False),
        Output("c", words, binary=True),
    ]
    body, length = write(Answer("7", "digits", "1", {"role": "stable"}, outputs))
    assert length is not None
    head = json.loads(body[:length])
    sizes = [o.get("parameters", {}).get("binary_data_size") for o in head["outputs"]]
    assert sizes == [16, None, 4 + 10 + 4 + 9]
    assert body[length : length + 16] == numbers.tobytes()
    assert body[length + 16 :] == pack_elements([b"1.5:0:zero", b"2.5:1:one"])
    assert head["outputs"][1] == {
        "name": "b",
        "datatype": "FP32",
        "shape": [2, 1, 2],
        "data": [1.0, 2.0, 3.0, 4.0],
    }
    assert (head["id"], head["model_name"], head["model_version"]) == ("7", "digits", "1")


def test_an_answer_without_raw_tensors_is_json() -> None:
    words = np.array([[b"1.5:0:zero"]], object)
    body, length = write(Answer("", "digits", "1", {}, [Output("c", words, binary=False)]))
    assert length is None
    head = json.loads(body)
    assert "id" not in head
    assert head["outputs"][0]["data"] == ["1.5:0:zero"]
