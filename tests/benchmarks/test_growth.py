"""How cost grows is measured on real images and real arenas."""

import pytest

from benchmarks import growth


@pytest.mark.slow
def test_sizes_and_classes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIDES", ((64, 48), (500, 375)))
    monkeypatch.setattr(growth, "CLASSES", (10,))
    monkeypatch.setattr("benchmarks.profile.ROUNDS", 1)
    monkeypatch.setattr("benchmarks.profile.CALLS", 2)
    sizes = growth.by_size()
    assert sizes["64 × 48"]["kB"] < sizes["500 × 375"]["kB"]
    assert all(row["ms"] > 0 for row in sizes.values())
    classes = growth.by_classes()
    assert set(classes) == {"10"}
    assert all(us > 0 for us in classes["10"].values())
    assert growth.table("JPEG", sizes, 1).count("\n") == 3
