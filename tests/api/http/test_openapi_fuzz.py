"""The whole OpenAPI text, fuzzed: no 5xx, and every answer as it is documented."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from gsop.api.http.access import OPEN
from gsop.api.http.app import create_app
from gsop.keys import KeyScope, make_key
from tests.imagery import encode, picture
from tests.support import Server

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
"""For each call and way; ``make fuzz`` tries more."""

UNHURRIED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_FOUND: Any = schemathesis.openapi.from_dict(create_app().openapi()).get_all_operations()
OPERATIONS = {found.ok().label: found.ok() for found in _FOUND}

KEYS = {scope: make_key(scope, [scope]) for scope in KeyScope}
HEADERS = [
    {},
    {"Authorization": "Bearer gsop_unknown"},
    {"Authorization": "Basic dXNlcjpwYXNz"},
    *({"Authorization": f"Bearer {key}"} for key, _ in KEYS.values()),
]
"""Without a key, with wrong ones, and with one of each scope."""

# That random bytes are no image does not contradict their being allowed by the schema. Whether the
# server failed is judged by `validate`: a deadline of a millisecond may well pass.
LEFT_OUT = [positive_data_acceptance, not_a_server_error]


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def locked(tiny_store: Path) -> Iterator[Server]:
    entries = ",".join(str(entry) for _, entry in KEYS.values())
    with Server(tiny_store, models="tiny", api_keys=entries) as server:
        yield server.wait_ready()


def validate(case: Any, server: Server, headers: dict[str, str] | None = None) -> Any:
    """Send a case; the answer, which is as documented."""
    answer = case.call_and_validate(
        base_url=server.url, headers=headers, excluded_checks=LEFT_OUT, timeout=30
    )
    late = answer.status_code == 504 and "timeout_ms" in (case.query or {})
    assert answer.status_code < 500 or late
    return answer


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
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @UNHURRIED
    def fuzz(case: Any) -> None:
        validate(case, server)

    fuzz()


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_refusal_of_a_key_is_as_documented(label: str, locked: Server) -> None:
    @given(case=OPERATIONS[label].as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(UNHURRIED, max_examples=max(1, EXAMPLES // 4))
    def fuzz(case: Any) -> None:
        seen = [validate(case, locked, headers).status_code for headers in HEADERS]
        if label.removeprefix("GET ") not in OPEN:
            assert seen[:3] == [401] * 3

    fuzz()


IMAGE = encode(picture(8, 8), "PNG")
BODIES: dict[str, Any] = {
    "image/*": IMAGE,
    "application/octet-stream": IMAGE,
    "application/json": {"image": base64.b64encode(IMAGE).decode()},
    "multipart/form-data": {"image": [IMAGE, b"no image", IMAGE]},
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("attention", ["true", "false"])
def test_predictions_are_as_documented(kind: str, attention: str, server: Server) -> None:
    case = OPERATIONS["POST /predict"].Case(
        body=BODIES[kind], media_type=kind, query={"attention": attention, "model": "tiny"}
    )
    assert validate(case, server).status_code == 200


@pytest.mark.parametrize("form", ["application/json", "image/png", "application/x-npz", "*/*"])
def test_the_gates_of_a_prediction_are_as_documented(form: str, server: Server) -> None:
    case = OPERATIONS["GET /attention/{id}"].Case(
        path_parameters={"id": server.predict(IMAGE)["id"]}, headers={"accept": form}
    )
    assert validate(case, server).status_code == 200


@pytest.mark.parametrize(
    "query", [{}, {"stage": "layer4"}, {"class": "3"}, {"class": "class 3", "model": "tiny"}]
)
def test_statistics_are_as_documented(query: dict[str, str], server: Server) -> None:
    server.predict(IMAGE)
    case = OPERATIONS["GET /attention"].Case(query=query)
    assert validate(case, server).status_code == 200


def test_a_model_is_as_documented(server: Server) -> None:
    case = OPERATIONS["GET /models/{name}"].Case(path_parameters={"name": "tiny"})
    assert validate(case, server).status_code == 200
