"""``GET /models/{name}/drift``: are a version's gates still those of its reference?"""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from gsop.api.http import drift_rendering, rendering
from gsop.api.http.access import caller_of
from gsop.api.http.attention import MAX_ACCEPT, check_stage
from gsop.api.http.drift_schemas import DriftQueryParameters, DriftReport
from gsop.api.http.formats import draw
from gsop.api.http.negotiation import choose
from gsop.api.http.problems import documented
from gsop.api.http.routes import DRIFT
from gsop.api.http.service import ServiceDep
from gsop.errors import InvalidParameter, NotAcceptable, NotReady, UnknownModel
from gsop.serving.choice import find_loaded

router = APIRouter(tags=["attention"])

FORMS = ("application/json", "image/png")


@router.get(
    DRIFT,
    summary="How far the gates are from the version's reference",
    response_model=DriftReport,
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **documented(UnknownModel, NotAcceptable, InvalidParameter, NotReady),
    },
)
async def drift(
    request: Request,
    name: Annotated[str, Path(max_length=64)],
    query: Annotated[DriftQueryParameters, Query()],
    service: ServiceDep,
    accept: Annotated[str, Header(max_length=MAX_ACCEPT)] = "*/*",
) -> Response:
    """The newest window of served images beside the reference, gate by gate: JSON or a picture.

    Images that come again count once; images that come in bursts count for as many as they are
    worth; other shares of the classes move nothing. With several engines, the one with the highest
    score is shown.

    An API key needs the scope `attention`; without `admin` it does not see the shares of the
    classes.
    """
    media_type = choose(accept, FORMS)
    model = find_loaded(service.generations, name, query.version)
    check_stage(model, query.stage)
    report = await service.gates.drift(model)
    if media_type == "image/png":
        return Response(await draw(drift_rendering.picture, model, report), media_type=media_type)
    sees_all = caller_of(request.scope).sees is None
    content = drift_rendering.report(model, report, query.stage, classes=sees_all)
    return rendering.json_response(content)
