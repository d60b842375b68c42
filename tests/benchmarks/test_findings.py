"""The findings are measured on sets whose faults are known."""

import numpy as np

from benchmarks import findings
from gsop.store.manifest import read_manifest
from tests.support import ROOT


def test_changed_labels_of_a_sure_model_are_found() -> None:
    manifest = read_manifest(ROOT / "model_store" / "digits" / "1")
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 10
    logits = rng.normal(size=(400, 10)).astype(np.float32) * 0.2
    logits[np.arange(400), truth] += 4
    found = findings.labels(manifest, logits, truth, rounds=2)
    assert set(found) == {"2%", "5%", "10%"}
    for row in found.values():
        assert row["found"] > 0.4
        assert row["false"] == 0
    sure = findings.calibration(manifest, logits, truth)
    assert sure["with, of others"] < sure["without"]


def test_copies_are_found_and_counted() -> None:
    found = findings.copies(most=8)
    assert all(row["found"] > 0.7 for row in found.values() if "found" in row)
    assert "JPEG, quality 30" in findings.table(
        {
            "labels": {"2%": {"found": 1.0, "false": 0.0}},
            "copies": found,
            "calibration": {"without": 0.1, "with, of others": 0.01},
        }
    )
