"""When a service says that it cannot help itself."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gsop.api.http.health import SILENCE_SECONDS, is_alive
from gsop.api.http.service import Service
from gsop.arena.states import EngineState
from gsop.serving.decoding import CALL_SECONDS

DECODE_SECONDS, HANG_SECONDS = 5.0, 60.0
PATIENCE = CALL_SECONDS + DECODE_SECONDS + SILENCE_SECONDS


def service(
    *,
    decoders: float = 0.0,
    supervisor: float = 0.0,
    engine: float = 0.0,
    batch: float | None = None,
    state: EngineState = EngineState.READY,
) -> Service:
    """One whose processes have last shown themselves so many seconds ago."""
    now = time.monotonic_ns()

    def ago(seconds: float) -> int:
        return now - int(seconds * 1e9)

    since = 0 if batch is None else ago(batch)
    only = SimpleNamespace(state=state, beat=ago(engine), busy_since=since)
    made: Any = SimpleNamespace(
        settings=SimpleNamespace(decode_seconds=DECODE_SECONDS, hang_seconds=HANG_SECONDS),
        engines=SimpleNamespace(board=SimpleNamespace(engines=lambda: [only])),
        generations=SimpleNamespace(
            board=SimpleNamespace(supervisor_beat=ago(supervisor)),
            present=SimpleNamespace(decoders=SimpleNamespace(silence=decoders)),
        ),
    )
    return cast("Service", made)


@pytest.mark.parametrize(
    ("most", "more"),
    [
        ({"decoders": PATIENCE - 1}, {"decoders": PATIENCE + 1}),
        ({"supervisor": SILENCE_SECONDS - 1}, {"supervisor": SILENCE_SECONDS + 1}),
        ({"engine": SILENCE_SECONDS - 1}, {"engine": SILENCE_SECONDS + 1}),
        (
            {"engine": 50.0, "batch": HANG_SECONDS + SILENCE_SECONDS - 1},
            {"engine": 50.0, "batch": HANG_SECONDS + SILENCE_SECONDS + 1},
        ),
        ({"state": EngineState.LOADING}, {"state": EngineState.FAILED}),
    ],
    ids=["decoders", "supervisor", "engine", "batch", "state"],
)
def test_silence_is_borne_for_a_while(most: dict[str, Any], more: dict[str, Any]) -> None:
    assert is_alive(service(**most))
    assert not is_alive(service(**more))
