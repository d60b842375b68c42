"""The rules that ship: each alert fires on series that it is for, and on those beside them not."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support import ROOT

RULES = ROOT / "deploy/prometheus/rules.yaml"
ALL: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
RECORDS, ALERTS = ([rule for rule in ALL if kind in rule] for kind in ("record", "alert"))

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)"
)


class Case(NamedTuple):
    """Series of which an alert fires at a time, and those of which it must not.

    Series are as ``promtool test rules`` takes them, one value a ``step``, without ``job`` and
    ``instance``.
    """

    at: str
    fires: Mapping[str, str]
    silent: Mapping[str, str]
    step: str = "1m"


def requests(failed: int, *, refused: int = 0) -> dict[str, str]:
    """Of 1000 requests a step so many fail."""
    good = 1000 - failed - refused
    return {
        'gsop_requests_total{route="/predict",status="200"}': f"0+{good}x160",
        'gsop_requests_total{route="/predict",status="500"}': f"0+{failed}x160",
        'gsop_requests_total{route="/predict",status="429"}': f"0+{refused}x160",
        # Of other calls nothing counts.
        'gsop_requests_total{route="/models",status="503"}': "0+1000x160",
    }


def times(slow: int) -> dict[str, str]:
    """Of 1000 requests a step so many are slow."""
    return requests(0) | {
        'gsop_request_seconds_bucket{route="/predict",le="0.25"}': f"0+{1000 - slow}x160",
        'gsop_request_seconds_count{route="/predict"}': "0+1000x160",
    }


def queue(quick: int, late: str) -> dict[str, str]:
    """Of 100 images a minute so many wait less than 100 ms, until they are as ``late`` says."""
    bucket = 'gsop_stage_seconds_bucket{stage="queue",le='
    return {
        f'{bucket}"0.1"}}': f"0+{quick}x30 {late}",
        f'{bucket}"1.0"}}': "0+100x200",
        f'{bucket}"+Inf"}}': "0+100x200",
    }


def batches(size: int) -> dict[str, str]:
    return {
        "gsop_batch_size_sum": f"0+{10 * size}x200",
        "gsop_batch_size_count": "0+10x200",
        'gsop_engine_batch_limit{engine="0"}': "16x200",
    }


def canary(share: int) -> dict[str, str]:
    version = 'gsop_predictions_total{model="digits",result="ok",'
    return {
        f'{version}version="1",role="stable"}}': f"0+{100 - share}x60",
        f'{version}version="2",role="canary"}}': f"0+{share}x60",
        'gsop_traffic_percent{model="digits",version="2",role="canary"}': "10x60",
    }


ROLLBACK = 'gsop_rollbacks_total{model="digits",reason="failures"}'
DRIFT = 'gsop_drift_score{model="digits",version="1",reference="published"}'
EXPIRY = "gsop_certificate_expiry_timestamp_seconds"

CASES = {
    "GsopAbsent": Case("3m", {"up": "0x5"}, {"up": "1x5", 'up{instance="other"}': "0x5"}),
    "GsopNotReady": Case("6m", {"gsop_ready": "0x10"}, {"gsop_ready": "0x4 1x6"}),
    "GsopErrorBudgetBurnsFast": Case("70m", requests(20), requests(5)),
    "GsopErrorBudgetBurnsSlowly": Case("74h", requests(2), requests(0), "30m"),
    "GsopLatencyBudgetBurnsFast": Case("70m", times(200), times(50)),
    "GsopLatencyBudgetBurnsSlowly": Case("74h", times(20), times(5), "30m"),
    "GsopSlotsFull": Case(
        "6m",
        {'gsop_slots{state="used"}': "250x10", 'gsop_slots{state="free"}': "6x10"},
        {'gsop_slots{state="used"}': "250x3 9x7", 'gsop_slots{state="free"}': "6x3 247x7"},
    ),
    "GsopOverloaded": Case("20m", requests(0, refused=50), requests(50, refused=5)),
    "GsopQueueSlow": Case("30m", queue(50, "1550+50x170"), queue(99, "3069+99x170")),
    "GsopBatchAtLimit": Case(
        "60m", batches(16) | queue(100, "3000+10x170"), batches(16) | queue(50, "1550+50x170")
    ),
    "GsopEngineRestarts": Case(
        "20m",
        {'gsop_engine_restarts_total{engine="0"}': "0x5 0+1x20"},
        {'gsop_engine_restarts_total{engine="0"}': "0x5 1x20"},
    ),
    "GsopFrontRestarts": Case(
        "20m",
        {'gsop_front_restarts_total{front="0"}': "0x5 0+1x20"},
        {'gsop_front_restarts_total{front="0"}': "0x5 1x20"},
    ),
    "GsopDecodersLost": Case(
        "20m",
        {'gsop_decoders_lost_total{reason="crashed"}': "0+2x20"},
        {'gsop_decoders_lost_total{reason="hung"}': "0x10 2x10"},
    ),
    "GsopDecoderForbidden": Case(
        "12m",
        {'gsop_decoders_lost_total{reason="forbidden"}': "0x10 1x10"},
        {'gsop_decoders_lost_total{reason="crashed"}': "0x10 1x10"},
    ),
    "GsopNonFiniteOutput": Case(
        "12m",
        {'gsop_images_total{result="non_finite_output"}': "0x10 1x10"},
        {'gsop_images_total{result="invalid_image"}': "0x10 1x10"},
    ),
    "GsopModelFailed": Case(
        "6m",
        {'gsop_model_state{model="digits",version="2",state="failed"}': "1x10"},
        {'gsop_model_state{model="digits",version="2",state="loading"}': "1x10"},
    ),
    "GsopCanaryShareOff": Case("40m", canary(30), canary(12)),
    "GsopRolledBack": Case("30m", {ROLLBACK: "0x10 1x50"}, {ROLLBACK: "1x60"}),
    "GsopDrift": Case("16m", {DRIFT: "1.4x20"}, {DRIFT: "1.4x10 0.7x10"}),
    "GsopCertificateExpires": Case("1m", {EXPIRY: "1000000x5"}, {EXPIRY: "1300000x5"}),
    "GsopCertificateExpiresNow": Case("1m", {EXPIRY: "100000x5"}, {EXPIRY: "1000000x5"}),
}


def test_every_alert_is_tried() -> None:
    """Whoever adds an alert adds series that fire it, and series that must not."""
    assert CASES.keys() == {alert["alert"] for alert in ALERTS}


def labelled(series: str) -> str:
    """The series as a scrape of the job would have it."""
    name, _, labels = series.partition("{")
    own = 'job="gsop"' + ("" if "instance=" in labels else ',instance="a:8000"')
    return f"{name}{{{own},{labels}" if labels else f"{name}{{{own}}}"


def needed(alert: dict[str, Any]) -> list[dict[str, Any]]:
    """The alert, after the records that it is made of: promtool evaluates all that it is given."""
    chosen = [alert]
    for record in reversed(RECORDS):
        if any(record["record"] in rule["expr"] for rule in chosen):
            chosen.insert(0, record)
    return chosen


def test_each_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    files = []
    for alert in ALERTS:
        name = alert["alert"]
        case, rules = CASES[name], tmp_path / f"{name}.rules.yaml"
        rules.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": needed(alert)}]}))
        firing = f'count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}})'
        for kind, series in (("fires", case.fires), ("silent", case.silent)):
            sample = {"labels": f'{{alertname="{name}"}}', "value": 1}
            expected = [sample] if kind == "fires" else []
            tests = {
                "interval": case.step,
                "input_series": [
                    {"series": labelled(series_), "values": values}
                    for series_, values in series.items()
                ],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": case.at, "exp_samples": expected}
                ],
            }
            content = {"rule_files": [str(rules)], "evaluation_interval": case.step}
            files.append(tmp_path / f"{name}.{kind}.yaml")
            files[-1].write_text(yaml.safe_dump(content | {"tests": [tests]}))
    done = subprocess.run(
        ["promtool", "test", "rules", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_what_to_do() -> None:
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    sections = {line[4:] for line in operations.splitlines() if line.startswith("### Gsop")}
    assert sections == {alert["alert"] for alert in ALERTS}
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"].endswith(".")
