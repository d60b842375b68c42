"""``GET /models`` and ``GET /models/{name}``: what the store holds, and what is loaded."""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response

from gsop.api.http.problems import documented
from gsop.api.http.routes import MODEL, MODELS
from gsop.api.http.schemas import (
    ChangeEntry,
    GateHeader,
    Model,
    ModelList,
    ModelSummary,
    ModelVersion,
)
from gsop.api.http.service import Service, ServiceDep
from gsop.api.http.versions import tag
from gsop.errors import InvalidParameter, StoreError, UnknownModel
from gsop.serving.status import ComparisonReport
from gsop.store.catalog import StoredVersion, list_versions

log = logging.getLogger("gsop.front")
router = APIRouter(tags=["models"])


# Both read the store's folders, so both are plain functions: they run in a thread.


@router.get(MODELS, summary="The store's versions")
def models(service: ServiceDep) -> ModelList:
    """Every version in the store, whether it is loaded, and how well it was measured."""
    return ModelList(models=[_summary(service, version) for version in stored_versions(service)])


@router.get(
    MODEL,
    summary="All versions of a model",
    responses=documented(UnknownModel, InvalidParameter),
)
def model(
    response: Response, name: Annotated[str, Path(max_length=64)], service: ServiceDep
) -> Model:
    """Everything that the manifests of a model's versions say, and how requests are spread.

    The `ETag` is that of the traffic, for the calls that change it.
    """
    stored = stored_versions(service)
    versions = [_version(service, version) for version in stored if version.name == name]
    if not versions:
        raise UnknownModel(f"the store has no model {name!r}; GET /models lists what it has")
    shares, status = service.generations.routing.models.get(name), service.generations.status
    if shares is not None:
        response.headers["ETag"] = tag(shares.revision)
    return Model(
        name=name,
        versions=versions,
        traffic=None if shares is None else shares.traffic,
        canary_percent=_canary_percent(status.comparisons.get(name, ())),
        kept=status.kept,
        changes=[
            ChangeEntry(time=datetime.fromtimestamp(c.time, UTC), who=c.who, what=c.what)
            for c in status.changes
            if c.model == name
        ],
    )


def _canary_percent(comparisons: Iterable[ComparisonReport]) -> float | None:
    for comparison in comparisons:
        answered = comparison.other.answered + comparison.stable.answered
        if comparison.role == "canary" and answered:
            return round(100 * comparison.other.answered / answered, 3)
    return None


def stored_versions(service: Service) -> list[StoredVersion]:
    """What the store holds, and what is loaded: a store may vanish while its models are served."""
    root = service.settings.model_store
    try:
        stored = list_versions(root)
    except StoreError as error:
        log.warning("the models that are loaded are served on, but: %s", error)
        stored = []
    # Of what is loaded, what serves; its files may have been replaced since.
    loaded = {
        (m.name, m.version): StoredVersion(m.name, m.version, root / m.name / m.version, m, None)
        for m in (model.manifest for model in service.engines.models)
    }
    listed = [loaded.pop((v.name, v.version), v) for v in stored]
    return listed + list(loaded.values())


def _summary(service: Service, stored: StoredVersion) -> ModelSummary:
    routing = service.generations.routing
    shares = routing.models.get(stored.name)
    status = service.generations.status.find(stored.name, stored.version)
    summary = ModelSummary(
        name=stored.name,
        version=stored.version,
        loaded=service.engines.find(stored.name, stored.version) is not None,
        default=stored.name == routing.default
        and shares is not None
        and shares.traffic.stable == stored.version,
        state=None if status is None else status.state,
    )
    manifest = stored.manifest
    if manifest is None:
        # The reason names the operator's files, so it stays in the log.
        return summary.model_copy(update={"error": "the manifest cannot be read"})
    return summary.model_copy(
        update={
            "classes": manifest.config.num_classes,
            "input": manifest.input.model_dump(),
            "metrics": manifest.metrics,
            "temperature": manifest.temperature,
            "created": manifest.created,
        }
    )


def _version(service: Service, stored: StoredVersion) -> ModelVersion:
    version = ModelVersion(**dict(_summary(service, stored)))
    manifest = stored.manifest
    if manifest is None:
        return version
    return version.model_copy(
        update={
            "config": asdict(manifest.config),
            "labels": list(manifest.labels),
            "gates": [
                GateHeader(stage=g.stage, block=g.block, kind=g.kind, shape=list(g.shape))
                for g in manifest.answer.gates
            ],
            "provenance": manifest.provenance,
            "sha256": manifest.sha256,
        }
    )
