"""The whole OpenAPI text, fuzzed: no 5xx, and every answer as it is documented."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from app.api.app import create_app
from tests.support import Server

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
"""For each call and way; ``make chaos`` tries more."""

_FOUND: Any = schemathesis.openapi.from_dict(create_app().openapi()).get_all_operations()
OPERATIONS = {found.ok().label: found.ok() for found in _FOUND}


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


def ways() -> list[tuple[str, GenerationMode]]:
    """Each call with what its schema allows, and with what it does not; some have no input."""
    return [
        (label, mode)
        for label, operation in OPERATIONS.items()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if mode == GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())
    ]


@pytest.mark.parametrize(("label", "mode"), ways())
def test_every_answer_is_as_documented(label: str, mode: GenerationMode, server: Server) -> None:
    operation = OPERATIONS[label]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def fuzz(case: Any) -> None:
        # That random bytes are no image does not contradict their being allowed by the schema.
        left_out = [positive_data_acceptance, not_a_server_error]
        answer = case.call_and_validate(base_url=server.url, excluded_checks=left_out)
        # A deadline of some milliseconds may well pass.
        late = answer.status_code == 504 and "timeout_ms" in (case.query or {})
        assert answer.status_code < 500 or late

    fuzz()
