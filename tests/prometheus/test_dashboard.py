"""The dashboard that ships: what Grafana takes, and queries that Prometheus can answer."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboard import FILE, text
from tests.support import ROOT

BOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def filled(query: str) -> str:
    """A query as Grafana sends it."""
    for variable, value in (
        ("$__rate_interval", "1m"),
        ("$job", "gsop"),
        ("$instance", ".*"),
    ):
        query = query.replace(variable, value)
    return query


def test_the_file_is_what_is_made() -> None:
    """If not: python -m deploy.dashboard."""
    assert FILE.read_text(encoding="utf-8") == text()


def test_it_can_be_imported_anywhere() -> None:
    assert (BOARD["uid"], BOARD["id"]) == ("gsop", None)
    assert BOARD["schemaVersion"] >= 36
    variables = {each["name"]: each for each in BOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])


def test_every_panel_has_a_unit_and_a_place_of_its_own() -> None:
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}

    assert not any(cells(one) & cells(two) for one, two in combinations(BOARD["panels"], 2))


def test_it_has_a_row_for_each_thing_that_is_watched() -> None:
    assert [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"] == [
        "Traffic and errors",
        "Latency by part",
        "Saturation",
        "Models and shares",
        "Gates and drift",
        "Processes",
    ]


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_there_is(query: str) -> None:
    """The names of docs/operations.md, which another test compares with a running service."""
    documented = set(re.findall(r"^\| `(gsop_\w+)` ", OPERATIONS, re.MULTILINE))
    for name in re.findall(r"gsop_\w+", query):
        assert {name, re.sub(r"_(bucket|sum|count)$", "", name)} & documented, name
    assert 'job="$job",instance=~"$instance"' in query
    assert all(
        "[$__rate_interval]" in part[:200] for part in re.split(r"\b(?:rate|increase)\(", query)[1:]
    )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_prometheus_can_answer_them(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": filled(q)} for n, q in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("amtool") is None, reason="needs amtool (prometheus-alertmanager)")
def test_alertmanager_takes_its_file() -> None:
    command = ["amtool", "check-config", str(ROOT / "deploy/prometheus/alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_starts_all_of_it_by_one_profile() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    watch = {name for name, service in services.items() if service.get("profiles") == ["watch"]}
    assert watch == {"prometheus", "alertmanager", "grafana"}
    for name in watch:
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        for volume in services[name]["volumes"]:
            source, _, _ = volume.partition(":")
            assert not source.startswith(".") or (ROOT / "deploy" / source).exists()
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert [job["job_name"] for job in scrape["scrape_configs"]] == ["gsop"]
    assert all((ROOT / "deploy/prometheus" / file).exists() for file in scrape["rule_files"])
