"""A real Prometheus scrapes a running service, which is made to go wrong.

Windows and patience of the rules are shortened; the rest is what ships.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import pytest
import yaml

from tests.background import Background
from tests.failing_backends import NAN
from tests.prometheus.test_dashboard import QUERIES, filled
from tests.prometheus.test_rules import ALERTS, RECORDS, RULES
from tests.support import ROOT, Server, eventually, free_port, png, random_pngs, send_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="needs prometheus (Debian: prometheus)"
    ),
]

IMAGES = random_pngs(8)

WITHOUT_CANARY = {"job_model:gsop_canary:ratio_rate15m"}
"""Records that have something to say only while there is a canary."""


def shortened(expression: str) -> str:
    """A rule over seconds instead of minutes, hours and days."""
    expression = expression.replace("offset 30m", "offset 1s").replace("[15m]", "[2m]")
    return re.sub(r"\[(5m|30m|1h|6h|3d|1m)\]", "[20s]", expression)


class Prometheus:
    """Scrapes a service every half second, with the rules that ship, shortened."""

    def __init__(self, target: str, folder: Path) -> None:
        rules = yaml.safe_load(RULES.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["expr"] = shortened(rule["expr"])
                if "for" in rule:
                    rule["for"] = "1s"
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {
                    "job_name": "gsop",
                    "static_configs": [{"targets": [target.removeprefix("http://")]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._address = f"127.0.0.1:{free_port()}"
        self._command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._address}",
            "--enable-feature=exemplar-storage",
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an expression; none while Prometheus is not there yet."""
        try:
            answer = httpx.get(
                f"http://{self._address}/api/v1/query", params={"query": query}, timeout=30
            )
        except httpx.TransportError:
            return []
        told = json.loads(answer.text)
        assert told["status"] == "success", (query, told)
        return list(told["data"]["result"])

    def firing(self) -> set[str]:
        """The alerts that are pending or firing."""
        return {series["metric"]["alertname"] for series in self.ask("ALERTS")}


def load(server: Server, clients: int) -> Background:
    """Sends images all the time."""

    def send() -> None:
        asyncio.run(
            send_all(
                server.url,
                IMAGES,
                clients=clients,
                requests=4 * clients,
                query={"familiarity": "true"},
            )
        )

    return Background(send)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ships, and the same again as version 2."""
    store = tmp_path_factory.mktemp("store") / "store"
    shutil.copytree(ROOT / "model_store", store)
    second = shutil.copytree(store / "digits/1", store / "digits/2") / "manifest.json"
    second.write_text(json.dumps(json.loads(second.read_text()) | {"version": "2"}))
    return store


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    backend = "tests.failing_backends:Regressed"
    settings = {"slots": 4, "drift_window": 100, "max_images": 2, "models": "digits/1"}
    with Server(store, backend=backend, **settings) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(server.url, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


def test_every_record_and_every_panel_has_series(server: Server, prometheus: Prometheus) -> None:
    expressions = {
        rule["record"]: rule["record"] for rule in RECORDS if rule["record"] not in WITHOUT_CANARY
    } | {query: shortened(filled(query)) for query in QUERIES}
    # Two windows of 100 different images before drift has a score.
    different = random_pngs(260)
    with load(server, 2):
        for image in different:
            server.http.post("/predict", content=image, headers={"Content-Type": "image/png"})
        silent = set(expressions)

        def all_told() -> bool:
            silent.difference_update({e for e in silent if prometheus.ask(expressions[e])})
            return not silent

        try:
            eventually(all_told, 60)
        except AssertionError:
            pytest.fail(f"nothing to say: {sorted(silent)}")


def test_alerts_name_metrics_that_there_are(prometheus: Prometheus) -> None:
    records = {rule["record"] for rule in RECORDS}
    names = {
        name
        for rule in (*ALERTS, *RECORDS)
        for name in re.findall(r"(?<![:\w])gsop_\w+", re.sub(r"\w+:gsop_[\w:]+", "", rule["expr"]))
    }
    answer = prometheus.ask('count by (__name__) ({__name__=~"gsop_.+"})')
    there = {series["metric"]["__name__"] for series in answer}
    # Only a service with TLS has a certificate.
    assert names - there <= {"gsop_certificate_expiry_timestamp_seconds"}
    assert records


def test_nothing_is_alerted_while_all_is_well(server: Server, prometheus: Prometheus) -> None:
    with load(server, 1):
        eventually(lambda: prometheus.ask("job:gsop_requests:rate5m"))
        time.sleep(2)
    serious = {alert["alert"] for alert in ALERTS if alert["labels"]["severity"] == "page"}
    # A busy machine may be slow, and the images of this test are noise.
    assert not prometheus.firing() & (serious - {"GsopLatencyBudgetBurnsFast", "GsopSlotsFull"})


def test_overload_is_alerted(server: Server, prometheus: Prometheus) -> None:
    with load(server, 24):
        eventually(lambda: "GsopOverloaded" in prometheus.firing(), 60)


def test_a_bad_canary_is_alerted(server: Server, prometheus: Prometheus) -> None:
    """One that answers some images with NaN loses its share; until then its share is recorded."""
    server.http.post("/models/digits/versions/2/load").raise_for_status()
    etag = server.http.get("/models/digits").headers["ETag"]
    traffic = {"stable": "1", "canary": "2", "percent": 50, "auto_rollback": True}
    server.http.put(
        "/models/digits/traffic", json=traffic, headers={"If-Match": etag}
    ).raise_for_status()
    with load(server, 2):
        for record in WITHOUT_CANARY:
            eventually(partial(prometheus.ask, record), 60)
    marked = png(np.full((32, 32, 3), NAN, np.uint8))

    def is_taken_back() -> bool:
        server.http.post("/predict", content=marked, headers={"Content-Type": "image/png"})
        return server.metric("gsop_rollbacks_total") > 0

    eventually(is_taken_back, 60)
    for alert in ("GsopRolledBack", "GsopNonFiniteOutput"):
        eventually(lambda: alert in prometheus.firing(), 60)  # noqa: B023


def test_a_killed_engine_is_alerted(server: Server, prometheus: Prometheus) -> None:
    for _ in range(5):
        before = server.metric("gsop_engine_restarts_total")
        os.kill(server.engine(), signal.SIGKILL)
        eventually(lambda: server.metric("gsop_engine_restarts_total") > before, 60)  # noqa: B023
        server.wait_ready()
    eventually(lambda: "GsopEngineRestarts" in prometheus.firing(), 60)
