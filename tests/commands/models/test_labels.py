import sys
from pathlib import Path

import pytest

from gsop.commands.models.labels import labels_for
from gsop.errors import ConfigError


def test_a_file_names_a_class_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffcat\r\n great dane \r\nžába\r\n\r\n".encode())
    assert labels_for(3, file) == ["cat", "great dane", "žába"]


def test_a_thousand_classes_are_imagenets() -> None:
    labels = labels_for(1000, None)
    assert (len(labels), labels[0], labels[1], labels[999]) == (
        *(1000, "tench", "goldfish"),
        "toilet tissue",
    )


def test_other_numbers_of_classes_are_numbered() -> None:
    assert labels_for(3, None) == ["class 0", "class 1", "class 2"]


def test_without_torchvision_a_thousand_classes_must_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError, match=r"install the extra `torchvision`.*or name.*--labels"):
        labels_for(1000, None)
    assert len(labels_for(999, None)) == 999


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\nb\n", "has 2 labels, the network 3 classes"),
        (b"a\n\nc\n", "line 2 .* is empty"),
        (b"\xff\xfe\xfa", "is no UTF-8 text"),
        (b"", "has 0 labels"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        labels_for(3, file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.txt cannot be read"):
        labels_for(3, tmp_path / "nowhere.txt")
