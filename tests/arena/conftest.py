"""A small deployment without a store: its one model is a manifest alone."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gsop.arena.deployment import Deployment
from gsop.arena.layout import Arena
from gsop.arena.service import ServiceMemory, ServicePlan
from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.settings import Settings
from gsop.store.manifest import Manifest

SPEC = InputSpec(height=4, width=4, resize=4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def manifest(classes: int = 2) -> Manifest:
    """Of a network without gates, so that an answer is short."""
    return Manifest(
        format=1,
        name="tiny",
        version="1",
        config=GSoPResNetConfig(
            depth=18, stem="cifar", base_width=8, num_classes=classes, attention="none"
        ),
        input=SPEC,
        labels=tuple(f"class {number}" for number in range(classes)),
        sha256="0" * 64,
        created=datetime.now(UTC),
    )


def deployment(**settings: object) -> Deployment:
    """Two fronts with two slots each, two engines, unless ``settings`` say otherwise."""
    chosen = {"models": "tiny", "slots": 4, "fronts": 2, "device": "cpu,cpu"} | settings
    return Deployment(
        settings=Settings.load(**chosen),
        manifests=(manifest(),),
        address=f"\0test-{time.monotonic_ns()}",
    )


def plan(**settings: object) -> ServicePlan:
    """The service of such a deployment."""
    return ServicePlan(settings=deployment(**settings).settings, routes=("/predict",))


@pytest.fixture
def arena() -> Iterator[Arena]:
    """The supervisor's."""
    made = Arena.create(deployment())
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[ServiceMemory]:
    """The supervisor's."""
    made = ServiceMemory.create(plan())
    yield made
    made.close()
