"""An inference request of the Open Inference Protocol, however it came. Pure."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsop.api.oip.pixels import PIXELS, pixels_of
from gsop.api.oip.tensors import Tensor
from gsop.errors import RequestError
from gsop.images import InputSpec
from gsop.serving.decoding import Picture

IMAGE = "image"
"""The input that holds image files: BYTES, one file an element."""

COSTLY_BYTES, COSTLY_VALUES = 2**20, 20_000
"""Of numbers that are to be rounded, and of values in JSON: more are made pixels in a thread."""

MOST_MILLISECONDS = 3_600_000

LONGEST_ID = 1024
"""Of a request, in characters: it comes back with the answer, which may wait long to be read."""

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]


@dataclass(frozen=True)
class WantedOutput:
    """An output that a request asks for.

    Attributes:
        name: of the model's output.
        classes: to answer with the likeliest of them in words; 0: with the numbers.
        binary: whether its bytes are to come raw; ``None``: as the request has it for all.
    """

    name: str
    classes: int = 0
    binary: bool | None = None


@dataclass(frozen=True)
class InferenceRequest:
    """What a request asks.

    Attributes:
        id: comes back with the answer; empty if the caller gave none.
        inputs: the tensors.
        outputs: that are asked for; none: all.
        timeout_ms: from the request's head on; ``None``: the service's.
        binary: whether outputs come raw that do not say it themselves.
    """

    id: str
    inputs: Sequence[Tensor]
    outputs: Sequence[WantedOutput] = ()
    timeout_ms: int | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        """Refuse an id that is none.

        Raises:
            RequestError: if it is too long.
        """
        if len(self.id) > LONGEST_ID:
            raise RequestError(f"the request's id has at most {LONGEST_ID} characters")

    @property
    def is_costly(self) -> bool:
        """Whether :meth:`images` takes milliseconds."""
        return any(map(_is_costly, self.inputs))

    def images(self, most: int, spec: InputSpec) -> Sequence[Picture]:
        """The image files, or pixels ``(3, H, W)``.

        Args:
            most: that one request may have.
            spec: what the network wants.

        Raises:
            RequestError: if it has none, or too many, or they are not as they should be.
        """
        tensor = self._only_input()
        if tensor.name == PIXELS:
            return pixels_of(tensor, spec, most)
        return self._files(tensor, most)

    def _files(self, tensor: Tensor, most: int) -> list[bytes]:
        if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
            raise RequestError(
                f"input {IMAGE!r} has the shape {list(tensor.shape)}; send [N] or [N, 1], with one "
                "image file an element"
            )
        images = tensor.elements(most)
        if not images:
            raise RequestError(f"input {IMAGE!r} is empty; send an image")
        if tensor.raw is None:
            images = [_decode(image, at) for at, image in enumerate(images)]
        for at, image in enumerate(images):
            if not image:
                raise RequestError(f"element {at} of input {IMAGE!r} is empty; send an image")
        return images

    def _only_input(self) -> Tensor:
        named = ", ".join(repr(tensor.name) for tensor in self.inputs) or "none"
        if len(self.inputs) != 1 or self.inputs[0].name not in (IMAGE, PIXELS):
            raise RequestError(
                f"the model takes the input {IMAGE!r} or {PIXELS!r}, and the request has {named}"
            )
        return self.inputs[0]


def _is_costly(tensor: Tensor) -> bool:
    if tensor.raw is not None:
        return tensor.datatype == "FP32" and len(tensor.raw) > COSTLY_BYTES
    return tensor.size > COSTLY_VALUES


def _decode(text: bytes, at: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            f"element {at} of input {IMAGE!r} is not base64 ({error}); in JSON an image is the "
            "base64 of its file"
        ) from error


def milliseconds(parameters: Parameters) -> int | None:
    """The parameter ``timeout`` (microseconds), as a request's deadline has it.

    Raises:
        RequestError: if it is no number of them, or more than an hour.
    """
    value = parameters.get("timeout", 0)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RequestError("the parameter 'timeout' must be microseconds, a whole number")
    if value > MOST_MILLISECONDS * 1000:
        raise RequestError("the parameter 'timeout' is more than an hour")
    return math.ceil(value / 1000) or None


def classes_of(parameters: Parameters) -> int:
    """The parameter ``classification`` of an output.

    Raises:
        RequestError: if it is no number of classes.
    """
    value = parameters.get("classification", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise RequestError("the parameter 'classification' must be a number of classes")
    return value
