"""What a request with images asks for: in its query, and in its body."""

from collections.abc import Sequence
from typing import TypeVar

from starlette.requests import Request

from gsop.api.http.bodies import read_images
from gsop.api.http.body_limits import BodyLimits
from gsop.api.http.query import with_options
from gsop.api.http.schemas import PreprocessQuery
from gsop.serving.classify import Visit
from gsop.settings import Settings

Q = TypeVar("Q", bound=PreprocessQuery)


async def read_asked(
    request: Request, settings: Settings, visit: Visit, query: Q, *, max_images: int
) -> tuple[Sequence[bytes], Q]:
    """The images of a body, one at least, and the query with the options beside them.

    Args:
        request: whose body has not been read yet.
        settings: the service's.
        visit: the request's, which takes the version that the body names.
        query: of its path.
        max_images: in it.

    Raises:
        GSoPError: of :func:`~gsop.api.http.bodies.read_images`.
        InvalidParameter: if an option is wrong, or differs from the query.
        UnknownModel: if no such version is loaded.
        ClientDisconnect: if the client leaves before the end of the body.
    """
    parts = await read_images(
        request,
        visit.memory,
        BodyLimits.of(settings),
        max_images=max_images,
        options=type(query).model_fields,
    )
    if parts.options:
        query = with_options(query, parts.options)
        visit.choose(query.model, query.version)
    return parts.images, query
