"""``POST /inspect``: one answer taken apart, by a process of its own."""

import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from gsop.api.http.access import caller_of
from gsop.api.http.asked import read_asked
from gsop.api.http.attention import MAX_ACCEPT
from gsop.api.http.inspect_schemas import InspectionAnswer, InspectQuery
from gsop.api.http.negotiation import choose
from gsop.api.http.predict_documentation import BODY
from gsop.api.http.problems import documented
from gsop.api.http.routes import INSPECT
from gsop.api.http.service import ServiceDep, watch_of
from gsop.errors import (
    BodyTimeout,
    BodyTooLarge,
    DeadlineExceeded,
    Draining,
    Forbidden,
    GSoPError,
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    NotAcceptable,
    NotReady,
    Overloaded,
    RequestError,
    UnknownModel,
    UnsupportedMediaType,
)
from gsop.inspection.protocol import FORMS, Question, ask
from gsop.serving.classify import while_watched
from gsop.store.manifest import Manifest

router = APIRouter(tags=["attention"])

NO_GATE = "none"


@router.post(
    INSPECT,
    summary="What an answer hangs on",
    response_model=InspectionAnswer,
    openapi_extra=BODY,
    responses={
        200: {
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
            }
        },
        **documented(
            *(RequestError, InvalidImage, Forbidden, UnknownModel, NotAcceptable, BodyTimeout),
            *(BodyTooLarge, ImageTooLarge, UnsupportedMediaType, InvalidParameter, Overloaded),
            *(GSoPError, NotReady, Draining, DeadlineExceeded),
        ),
    },
)
async def inspect(
    request: Request,
    query: Annotated[InspectQuery, Query()],
    service: ServiceDep,
    accept: Annotated[str, Header(max_length=MAX_ACCEPT)] = "*/*",
) -> Response:
    """What its gates are made of, what others would answer, and which channels matter most.

    Takes the bodies of `POST /predict`; the gates of a second image, in a multipart body, are put
    in place of the first one's. JSON, or by `Accept` a report (`text/html`) or all numbers
    (`application/x-npz`). Computed in float64 by one process that is there for it alone, at a low
    priority, for one image at a time: others get 429. It takes no slot, and is refused where all
    are taken. `GSOP_INSPECT=false` turns it off; `gsop inspect` does the same offline.
    """
    began = time.monotonic()
    if not service.settings.inspect:
        raise Forbidden(
            "inspections are turned off here (GSOP_INSPECT=false); gsop inspect does the same "
            "where the model is"
        )
    form = choose(accept, FORMS)
    address = request.client.host if request.client else ""
    caller = caller_of(request.scope)
    with service.classifier.admit(query.model, query.version, caller, address) as visit:
        images, query = await read_asked(request, service.settings, visit, query, max_images=2)
        pixels = []
        for image in images:
            model, prepared = await visit.preprocess(
                image, timeout_ms=query.timeout_ms, watch=watch_of(request)
            )
            pixels.append(prepared)
        manifest = model.manifest
        timeout = (query.timeout_ms or service.settings.timeout_ms) / 1000
        question = Question(
            name=manifest.name,
            version=manifest.version,
            sha256=manifest.sha256,
            form=form,
            gate=_gate(manifest, query.gate),
            top_k=query.top_k,
            matrices=query.matrices,
            images=len(pixels),
            seconds=max(0.001, timeout - (time.monotonic() - began)),
        )
        with while_watched(watch_of(request)):
            body = await ask(service.generations.memory.plan.inspector, question, pixels)
    headers = {"Content-Security-Policy": "sandbox"} if form == "text/html" else {}
    return Response(body, media_type=form, headers=headers)


def _gate(manifest: Manifest, wanted: str | None) -> str | None:
    """The gate whose channels are switched: the one that is asked for, or else the last one."""
    there = [spec.name for spec in manifest.answer.gates if spec.kind == "channel"]
    if wanted == NO_GATE or (wanted is None and not there):
        return None
    if wanted is not None and wanted not in there:
        raise InvalidParameter(
            f"gate: {wanted!r} is no gate of channels of {manifest.name}/{manifest.version}; "
            f"there are: {', '.join(there) or 'none'}"
        )
    return wanted or there[-1]
