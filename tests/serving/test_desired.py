"""The file that says what is wanted."""

import json
from pathlib import Path

import pytest

from gsop.errors import ConfigError
from gsop.serving.desired import Desired, DesiredFile, DesiredModel

TEXT = '{"models": {"m": {"stable": "1", "canary": "2", "percent": 20, "loaded": ["3"]}}}'


def test_it_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "state.json")
    assert file.read() is None
    wanted = Desired(models={"m": DesiredModel(stable="1", loaded=("3",))})
    assert file.write(wanted)
    assert DesiredFile(file.path).read() == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"], "nothing else is left"


def test_a_person_can_write_it(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(TEXT)
    wanted = DesiredFile(tmp_path / "state.json").read()
    assert wanted is not None
    assert wanted.models["m"].traffic.versions == ["1", "2"]
    assert wanted.models["m"].loaded == ("3",)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"models": {}}', '{"models": {"m": {}}}', TEXT.replace("canary", "canari")]
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ConfigError, match=r"GSOP_STATE: .*state\.json"):
        DesiredFile(tmp_path / "state.json").read()


def test_who_else_writes_it_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(TEXT)
    file = DesiredFile(path)
    file.read()
    assert not file.changed()
    path.write_text(TEXT.replace("20", "30"))
    assert file.changed()
    file.read()
    file.write(Desired(models={"m": DesiredModel(stable="2")}))
    assert not file.changed(), "our own change is none of others"
    path.unlink()
    assert not file.changed(), "what is being replaced is waited for"


def test_a_place_that_cannot_be_written_is_said_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = DesiredFile(tmp_path / "nowhere" / "state.json")
    assert not file.write(Desired(models={"m": DesiredModel(stable="1")}))
    assert "will not outlive the service" in caplog.text


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path / "state.json")
    file.write(Desired(models={"m": DesiredModel(stable="1")}))
    before = file.path.stat().st_ino
    file.write(Desired(models={"m": DesiredModel(stable="2")}))
    assert file.path.stat().st_ino != before, "it is replaced, not written over"
    assert json.loads(file.path.read_text())["models"]["m"]["stable"] == "2"
