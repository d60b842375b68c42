"""From a request of the Open Inference Protocol to its answer, by whichever way it came."""

import asyncio
from typing import NoReturn

import numpy as np

from gsop.api.oip.outputs import Answer, check, make_outputs
from gsop.api.oip.request import InferenceRequest
from gsop.errors import GSoPError
from gsop.keys import Caller
from gsop.serving.classify import Classified, Outcomes, Visit, Watch

TOP_K = 5
"""Predictions that a record lists, as where ``POST /predict`` is not told otherwise."""


async def infer(
    visit: Visit,
    request: InferenceRequest,
    *,
    name: str,
    caller: Caller,
    most: int,
    watch: Watch,
) -> Answer:
    """Have a request answered: all of it, or none, as the protocol knows no error of one image.

    Args:
        visit: that was admitted.
        request: what is asked.
        name: of the model, as the request has it.
        caller: who asks.
        most: images in one request.
        watch: tells if the caller leaves.

    Raises:
        GSoPError: of :meth:`Visit.classify`, and that of the first image that has one.
    """
    check(request.outputs, visit.model.manifest.answer, caller)
    spec = visit.model.manifest.input
    if request.is_costly:
        images = await asyncio.to_thread(request.images, most, spec)
    else:
        images = request.images(most, spec)
    outcomes = await visit.classify(images, top_k=TOP_K, timeout_ms=request.timeout_ms, watch=watch)
    answered = _all_answered(outcomes)
    manifest = answered[0].model.manifest
    values = np.stack([one.inference.values for one in answered])
    return Answer(
        id=request.id,
        model_name=name,
        model_version=manifest.version,
        parameters={
            "prediction_ids": ",".join(one.inference.id for one in answered),
            "role": answered[0].role,
        },
        outputs=make_outputs(request, manifest.answer, values, caller),
    )


def _all_answered(outcomes: Outcomes) -> list[Classified]:
    answered = []
    for at, outcome in enumerate(outcomes):
        if isinstance(outcome, GSoPError):
            _fail(outcome, at, len(outcomes))
        answered.append(outcome)
    return answered


def _fail(error: GSoPError, at: int, count: int) -> NoReturn:
    if count == 1:
        raise error
    raise type(error)(f"element {at} of the input: {error}") from error
