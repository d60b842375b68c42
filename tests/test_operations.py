"""docs/operations.md keeps up with what a service tells, and with the rules that ship."""

import re
import shutil
import subprocess
from typing import NamedTuple

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ROOT, Server, random_pngs

pytestmark = pytest.mark.slow

OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


class Told(NamedTuple):
    kind: str
    labels: frozenset[str]
    meaning: str


def documented() -> dict[str, Told]:
    rows = re.findall(r"^\| `(gsop_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", OPERATIONS, re.MULTILINE)
    return {
        name: Told(kind, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    }


@pytest.fixture(scope="module")
def text(digits_server: Server) -> str:
    digits_server.predict(random_pngs(1)[0])
    return digits_server.http.get("/metrics").text


def test_every_metric_has_its_row_and_every_row_its_metric(text: str) -> None:
    """Whoever adds a metric adds its row to docs/operations.md: name, kind, labels, help."""
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }
    rows = documented()
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        row = f"| `{name}` | {family.type} | {', '.join(f'`{n}`' for n in sorted(labels))} | "
        row += f"{family.documentation} |"
        assert name in rows, f"docs/operations.md lacks the row: {row}"
        assert (family.type, family.documentation) == (rows[name].kind, rows[name].meaning), row
        assert labels <= rows[name].labels, row
    assert rows.keys() <= families.keys()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_prometheus_finds_nothing_to_say_of_the_metrics(text: str) -> None:
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_whoever_accepts_openmetrics_gets_it(digits_server: Server, text: str) -> None:
    answer = digits_server.http.get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.headers["Vary"] == "Accept"
    plain = digits_server.http.get("/metrics", headers={"Accept": "*/*"})
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    parsed = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]
    assert {family.name for family in parsed} == {
        family.name for family in text_string_to_metric_families(plain.text)
    }


def test_the_time_of_a_request_is_told_by_route_and_by_version(
    digits_server: Server,
) -> None:
    before = digits_server.metric("gsop_request_seconds_count", route="/predict")
    digits_server.predict(random_pngs(1)[0])
    assert digits_server.metric("gsop_request_seconds_count", route="/predict") == before + 1
    version = {"model": "digits", "version": "1", "role": "stable"}
    within = digits_server.metric("gsop_answer_seconds_bucket", le="0.25", **version)
    assert 0 < within <= digits_server.metric("gsop_answer_seconds_count", **version)
    assert digits_server.metric("gsop_ready") == 1
