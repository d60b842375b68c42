"""``GET /attention`` and ``GET /attention/{id}``: a look inside the model."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from gsop.api.http.access import caller_of
from gsop.api.http.formats import (
    RECORD_FORMATS,
    STATISTICS_FORMATS,
    write_record,
    write_statistics,
)
from gsop.api.http.negotiation import choose
from gsop.api.http.problems import documented
from gsop.api.http.rendering import Compared
from gsop.api.http.routes import ATTENTION, ATTENTION_OF
from gsop.api.http.schemas import AttentionQuery, AttentionRecord, AttentionStatistics
from gsop.api.http.service import ServiceDep
from gsop.errors import (
    InvalidParameter,
    NotAcceptable,
    NotReady,
    UnknownModel,
    UnknownPrediction,
)
from gsop.keys import KeyScope
from gsop.serving.choice import find_loaded
from gsop.serving.engines import LoadedModel

router = APIRouter(tags=["attention"])

PredictionId = Annotated[
    str, Path(max_length=64, description="`id` of an answer of `POST /predict`.")
]

MAX_ACCEPT = 1000
"""Characters of an Accept header: some times what browsers send, and cheap to weigh up."""

_FORMS: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in RECORD_FORMATS
    if media_type != "application/json"
}


@router.get(
    ATTENTION,
    summary="Live statistics of the gates",
    response_model=AttentionStatistics,
    responses={
        200: {"content": _FORMS},
        **documented(UnknownModel, InvalidParameter, NotAcceptable, NotReady),
    },
)
async def attention(
    request: Request,
    query: Annotated[AttentionQuery, Query()],
    service: ServiceDep,
    accept: Annotated[str, Header(max_length=MAX_ACCEPT)] = "*/*",
) -> Response:
    """Mean, deviation and extremes of every gate over all predictions, and the newest of them.

    JSON, a picture of the means (`Accept: image/png`), or numpy's npz.

    With `class`, over the predictions whose first class it was. The statistics live in the engine
    and begin anew with it (`since`).

    An API key without the scope `admin` sees those of its own predictions, of all classes together.
    """
    caller = caller_of(request.scope)
    if query.class_ is not None:
        caller.require(KeyScope.ADMIN, "class")
    model = find_loaded(service.generations, query.model, query.version)
    check_stage(model, query.stage)
    media_type = choose(accept, tuple(STATISTICS_FORMATS))
    seen = await service.gates.statistics(model, _class_id(model, query.class_), caller.sees)
    return await write_statistics(media_type, model, seen, query.stage)


@router.get(
    ATTENTION_OF,
    summary="The gates of one earlier prediction",
    response_model=AttentionRecord,
    responses={
        200: {"content": _FORMS},
        **documented(UnknownPrediction, NotAcceptable, InvalidParameter, NotReady),
    },
)
async def attention_of(
    request: Request,
    id: PredictionId,
    service: ServiceDep,
    accept: Annotated[str, Header(max_length=MAX_ACCEPT)] = "*/*",
) -> Response:
    """The gate vectors of one prediction: JSON, a picture (`Accept: image/png`), or numpy's npz.

    Where the version brings a reference, also how far each value is from it.

    Only the newest predictions are kept (`GSOP_ATTENTION_RECORDS`), and only the API key that asked
    for them sees them, or one with the scope `admin`.
    """
    media_type = choose(accept, tuple(RECORD_FORMATS))
    model, kept = await service.gates.record(id, caller_of(request.scope).sees)
    references = service.engines.references
    compared = Compared(
        await references.familiarity(model.manifest, kept.values),
        await references.residuals(model.manifest, kept.values),
    )
    return await write_record(media_type, model, kept, compared)


def check_stage(model: LoadedModel, stage: str | None) -> None:
    """Refuse the name of a stage that has no gate."""
    stages = sorted({gate.stage for gate in model.manifest.answer.gates})
    if stage is not None and stage not in stages:
        raise InvalidParameter(
            f"stage: {stage!r} has no gate; the gated stages are {', '.join(stages) or 'none'}"
        )


def _class_id(model: LoadedModel, text: str | None) -> int | None:
    if text is None:
        return None
    class_id = model.manifest.class_id(text)
    if class_id is None:
        raise InvalidParameter(
            f"class: {text!r} is neither a label nor a class id of "
            f"{model.manifest.name}/{model.manifest.version}; "
            f"GET /models/{model.manifest.name} lists the labels"
        )
    return class_id
