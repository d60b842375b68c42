"""Every error that the service raises on purpose.

The tree, with the HTTP status and code that each class answers with::

    GSoPError                       500 internal
    ├── RequestError                400 invalid_request      the client can mend it
    │   ├── InvalidImage            400 invalid_image
    │   ├── Unauthorized            401 unauthorized
    │   ├── Forbidden               403 forbidden
    │   ├── ForeignOrigin           403 foreign_origin
    │   ├── InvalidParameter        422 invalid_parameter
    │   ├── UnknownModel            404 unknown_model
    │   ├── UnknownPrediction       404 unknown_prediction
    │   ├── NotAcceptable           406 not_acceptable
    │   ├── BodyTimeout             408 body_timeout
    │   ├── Conflict                409 conflict
    │   ├── PreconditionFailed      412 precondition_failed
    │   ├── BodyTooLarge            413 body_too_large
    │   ├── ImageTooLarge           413 image_too_large
    │   ├── UnsupportedMediaType    415 unsupported_media_type
    │   ├── Misdirected             421 misdirected
    │   ├── LoadFailed              422 load_failed
    │   └── PreconditionRequired    428 precondition_required
    ├── Unavailable                 503 unavailable          the client may try again
    │   ├── Overloaded              429 overloaded
    │   │   ├── ClientOverloaded    429 client_overloaded
    │   │   └── RateLimited         429 rate_limited
    │   ├── NotReady                503 not_ready
    │   └── Draining                503 draining
    ├── DeadlineExceeded            504 deadline_exceeded
    ├── EngineError                 500 internal             the device's side failed
    │   ├── EngineCrashed           500 engine_crashed
    │   ├── DeviceOutOfMemory       500 out_of_memory
    │   └── NonFiniteOutput         500 non_finite_output
    └── SetupError                  500 internal             an operator's mistake
        ├── StoreError                                       a model version that cannot be served
        │   └── StoreUnreachable                             for as long as that is so
        └── ConfigError                                      settings that cannot work

The message of an error is written for whoever can mend it and names the remedy.
Foreign exceptions are translated where the foreign library is called, with ``from``.
"""

from collections.abc import Iterator
from typing import ClassVar

LONGEST_SHOWN = 4000
"""Characters of a message that a client gets."""


class GSoPError(Exception):
    """The root. Its message is shown to the client, so it holds no internals."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    @property
    def shown(self) -> str:
        """The message as a client gets it.

        What it quotes may be as long as a request, and an answer may wait long to be read.
        """
        text = str(self)
        return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …"


class RequestError(GSoPError):
    """The request cannot be answered as it is; sending it again will not help."""

    status, code, title = 400, "invalid_request", "Invalid request"


class InvalidImage(RequestError):
    """The bytes are no image that can be decoded."""

    status, code, title = 400, "invalid_image", "Invalid image"


class Unauthorized(RequestError):
    """The request has no API key, or one that the service does not know."""

    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(RequestError):
    """The request's API key lacks the scope that the call needs."""

    status, code, title = 403, "forbidden", "Forbidden"


class ForeignOrigin(RequestError):
    """A page of another origin asks for something to be done."""

    status, code, title = 403, "foreign_origin", "Foreign origin"


class Misdirected(RequestError):
    """The service is not answered under the name that the request has in Host."""

    status, code, title = 421, "misdirected", "Misdirected request"


class InvalidParameter(RequestError):
    """A query parameter is of the wrong type or out of range."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class UnknownModel(RequestError):
    """No model of that name or version is loaded or stored."""

    status, code, title = 404, "unknown_model", "Unknown model"


class UnknownPrediction(RequestError):
    """No record of that prediction is kept (it may have been displaced by newer ones)."""

    status, code, title = 404, "unknown_prediction", "Unknown prediction"


class NotAcceptable(RequestError):
    """The Accept header admits none of the forms that the answer comes in."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class BodyTimeout(RequestError):
    """The request's body did not arrive in time."""

    status, code, title = 408, "body_timeout", "Body timeout"


class Conflict(RequestError):
    """What is asked for does not go with what is loaded, or with a change that is under way."""

    status, code, title = 409, "conflict", "Conflict"


class PreconditionFailed(RequestError):
    """Somebody else has changed it since the caller looked."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class PreconditionRequired(RequestError):
    """The call must say which state it changes."""

    status, code, title = 428, "precondition_required", "Precondition required"


class LoadFailed(RequestError):
    """A version cannot be loaded; those that are loaded serve on."""

    status, code, title = 422, "load_failed", "Load failed"


class BodyTooLarge(RequestError):
    """The request's body has more bytes than the service accepts."""

    status, code, title = 413, "body_too_large", "Body too large"


class ImageTooLarge(RequestError):
    """The image's header announces more pixels than the service decodes."""

    status, code, title = 413, "image_too_large", "Image too large"


class UnsupportedMediaType(RequestError):
    """The Content-Type or Content-Encoding is none that the service reads."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Unavailable(GSoPError):
    """The service cannot take the request now; the same request may succeed later.

    Attributes:
        retry_after: seconds after which a new try makes sense.
    """

    status, code, title = 503, "unavailable", "Unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Every slot is taken."""

    status, code, title = 429, "overloaded", "Overloaded"


class ClientOverloaded(Overloaded):
    """This client has as many images in the service as one may have; others are still served."""

    status, code, title = 429, "client_overloaded", "Too many images at once"


class RateLimited(Overloaded):
    """The API key sends more requests a second than it may."""

    status, code, title = 429, "rate_limited", "Too many requests"


class NotReady(Unavailable):
    """No engine has become ready yet, or the engines have failed."""

    status, code, title = 503, "not_ready", "Not ready"


class Draining(Unavailable):
    """The service is shutting down and takes no new work."""

    status, code, title = 503, "draining", "Draining"


class DeadlineExceeded(GSoPError):
    """The answer was not ready when the request's deadline passed."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class EngineError(GSoPError):
    """The engine failed on this request."""


class EngineCrashed(EngineError):
    """Engines died on this request, in a batch and then twice alone."""

    status, code, title = 500, "engine_crashed", "Engine crashed"


class DeviceOutOfMemory(EngineError):
    """The device has no room for this image, not even alone."""

    status, code, title = 500, "out_of_memory", "Device out of memory"


class NonFiniteOutput(EngineError):
    """The network answered with NaN or infinity."""

    status, code, title = 500, "non_finite_output", "Non-finite output"


class SetupError(GSoPError):
    """The service cannot start or load as it was told to."""


class StoreError(SetupError):
    """A model version is missing, incomplete or wrong; the message says what to do."""


class StoreUnreachable(StoreError):
    """The remote store does not answer, or not as a store does; it may later."""


class ConfigError(SetupError):
    """The settings cannot work on this machine or contradict each other."""


def error_of(code: str) -> type[GSoPError]:
    """The class of errors that answers with a code; the root for one that is not known."""
    return next((kind for kind in all_errors() if kind.code == code), GSoPError)


def all_errors(root: type[GSoPError] = GSoPError) -> Iterator[type[GSoPError]]:
    """The tree, from its root on."""
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)
