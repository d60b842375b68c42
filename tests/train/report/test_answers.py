import csv
from pathlib import Path

import numpy as np
import pytest

from tests.train.report.made import made

ANSWERS = made([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.0, 1.0, 0.0]], [0, 1, 2])


def test_loss_and_margin_are_of_the_true_class() -> None:
    assert ANSWERS.right.tolist() == [True, False, False]
    assert ANSWERS.margin.tolist() == pytest.approx([0.5, -0.1, -1.0])
    assert ANSWERS.loss[:2].tolist() == pytest.approx([-np.log(0.7), -np.log(0.4)], abs=1e-6)
    assert np.isfinite(ANSWERS.loss[2])


def test_there_is_a_row_an_image(tmp_path: Path) -> None:
    with ANSWERS.write(tmp_path, "csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[1] == {
        "file": "1.png",
        "truth": "b",
        "prediction": "a",
        "right": "False",
        "confidence": "0.5",
        "loss": "0.916291",
        "margin": "-0.1",
        "p(a)": "0.5",
        "p(b)": "0.4",
        "p(c)": "0.1",
    }


def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parquet.read_table(ANSWERS.write(tmp_path, "parquet"))
    assert found.column_names == list(ANSWERS.columns())
    assert found["margin"].to_pylist() == pytest.approx(ANSWERS.margin.tolist())
