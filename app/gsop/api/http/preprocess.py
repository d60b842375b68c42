"""``POST /preprocess``: an image as the network sees it."""

from io import BytesIO
from typing import Annotated

from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.responses import Response

from gsop.api.http.access import caller_of
from gsop.api.http.asked import read_asked
from gsop.api.http.predict_documentation import BODY
from gsop.api.http.problems import documented
from gsop.api.http.routes import PREPROCESS
from gsop.api.http.schemas import PreprocessQuery
from gsop.api.http.service import ServiceDep, watch_of
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    DeadlineExceeded,
    Draining,
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    NotReady,
    Overloaded,
    RequestError,
    UnknownModel,
    UnsupportedMediaType,
)

router = APIRouter(tags=["predict"])


@router.post(
    PREPROCESS,
    summary="An image as the network sees it",
    response_class=Response,
    openapi_extra=BODY,
    responses={
        200: {"content": {"image/png": {}}},
        **documented(
            *(RequestError, InvalidImage, UnknownModel, BodyTimeout, BodyTooLarge, ImageTooLarge),
            *(InvalidParameter, UnsupportedMediaType, Overloaded, NotReady, Draining),
            DeadlineExceeded,
        ),
    },
)
async def preprocess(
    request: Request, query: Annotated[PreprocessQuery, Query()], service: ServiceDep
) -> Response:
    """The pixels after turning, scaling and cropping, before they are normalised, as a PNG.

    It is what `POST /predict` would have been answered for: where a picture is misjudged, look here
    first. Takes the bodies of `POST /predict` with one image, and no slot.
    """
    address = request.client.host if request.client else ""
    caller = caller_of(request.scope)
    with service.classifier.admit(query.model, query.version, caller, address) as visit:
        images, query = await read_asked(request, service.settings, visit, query, max_images=1)
        _, pixels = await visit.preprocess(
            images[0], timeout_ms=query.timeout_ms, watch=watch_of(request)
        )
    png = BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    return Response(png.getvalue(), media_type="image/png")
