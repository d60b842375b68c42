"""What is compared side by side: settings, or checkouts."""

from pathlib import Path

from benchmarks.servers import ROLES, ROOT
from benchmarks.turns import Way, start


def test_a_way_is_settings_or_a_checkout(tmp_path: Path) -> None:
    settings = start("decoders=2,fronts=1", "null", tmp_path, b"")
    assert settings._root == ROOT
    assert settings.kind.environment.items() >= {"GSOP_DECODERS": "2", "GSOP_FRONTS": "1"}.items()
    assert start(".", "null", tmp_path, b"")._root == ROOT
    checkout = start(str(tmp_path), "null", tmp_path, b"")
    assert checkout._root == tmp_path.resolve()
    assert "GSOP_DECODERS" not in checkout.kind.environment


def test_a_row_has_medians_by_role(tmp_path: Path) -> None:
    way = Way("two", start(".", "null", tmp_path, b""))
    way.rates, way.p99s = [90.0, 100.0, 110.0], [1.0, 2.0, 9.0]
    way.roles = [dict(zip(ROLES, (us, 2 * us, 3 * us, 0.0), strict=True)) for us in (9, 10, 11)]
    assert way.row() == ["two", "60 ±10%", "10", "20", "30", "100 ±10%", "2.0"]
