"""API keys as they are made, written down and recognised."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from gsop.__main__ import main
from gsop.arena.bulletin import Writer
from gsop.errors import ConfigError
from gsop.keys import PREFIX, ApiKey, KeyScope, make_key, recognise
from gsop.serving.keyring import Keeper, Keyring, follow_keys
from gsop.settings import Settings, read_api_keys


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GSOP_API_KEYS", "GSOP_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_is_recognised_by_its_entry_alone() -> None:
    made = [make_key(f"client-{i}", ["predict"]) for i in range(3)]
    entries = [ApiKey.parse(str(entry)) for _, entry in made]
    for number, (key, entry) in enumerate(made):
        assert key.startswith(PREFIX)
        assert key not in str(entry)
        assert recognise(entries, key.encode()) == number
        assert recognise(entries, key[:-1].encode()) is None
    assert recognise(entries, b"") is None
    assert recognise([], made[0][0].encode()) is None


@pytest.mark.parametrize(
    "entry",
    ["", "a:predict", "a:all:" + "0" * 64, "a b:predict:" + "0" * 64, "a:predict:" + "0" * 63],
)
def test_what_is_no_entry_is_refused_and_not_repeated(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSOP_API_KEYS", f"{entry or 'gsop_secret'},")
    with pytest.raises(ConfigError, match=r"GSOP_API_KEYS: .*`gsop key`") as caught:
        Settings.load()
    assert "secret" not in str(caught.value)
    assert "00000" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_entries_come_from_the_environment_and_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, audit = make_key("shop", ["predict"])[1], make_key("audit", ["admin", "predict"])[1]
    file = tmp_path / "keys"
    file.write_text(f"# who may what\n\n{audit}  # since May\n")
    monkeypatch.setenv("GSOP_API_KEYS", str(shop))
    monkeypatch.setenv("GSOP_API_KEYS_FILE", str(file))
    settings = Settings.load()
    assert settings.api_keys == (shop, audit)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert audit.scopes == {KeyScope.PREDICT, KeyScope.ADMIN}


def test_the_variable_takes_a_whole_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shop, audit = make_key("shop", ["predict"])[1], make_key("audit", ["admin"])[1]
    monkeypatch.setenv("GSOP_API_KEYS", f"# who, and what: a, b\n{shop}  # May\n\n{audit}\n")
    assert Settings.load().api_keys == (shop, audit)
    file = tmp_path / "more"
    more = make_key("more", ["predict"])[1]
    file.write_text(f"{more}\n")
    assert read_api_keys(file) == (shop, audit, more)  # as it is read again while serving


def test_a_second_key_of_a_name_is_refused_before_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    assert main(["key", "shop", "--file", str(file)]) == 0
    before = file.read_text()
    assert main(["key", "shop", "--file", str(file)]) == 1
    assert "has an entry for shop already" in capsys.readouterr().err
    assert file.read_text() == before
    assert main(["key", "shop-2", "--file", str(file)]) == 0
    assert len(Settings.load(api_keys_file=file).api_keys) == 2


@pytest.mark.parametrize("content", [None, "# nothing yet\n"])
def test_a_file_without_entries_does_not_open_the_door(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="GSOP_API_KEYS_FILE"):
        Settings.load(api_keys_file=file)


def test_two_entries_of_one_name_are_refused() -> None:
    entries = [str(make_key("shop", ["predict"])[1]) for _ in range(2)]
    with pytest.raises(ConfigError, match="same name"):
        Settings.load(api_keys=",".join(entries))


def test_two_entries_of_one_key_are_refused() -> None:
    _, entry = make_key("shop", ["predict"])
    other = entry.model_copy(update={"name": "audit", "scopes": frozenset({KeyScope.ADMIN})})
    with pytest.raises(ConfigError, match="same key"):
        Settings.load(api_keys=f"{entry},{other}")


def test_the_command_makes_a_key_that_its_file_admits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    for name in ("shop", "audit"):
        assert main(["key", name, "--scopes", "predict, admin", "--file", str(file)]) == 0
    keys = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "key " in line]
    entries = Settings.load(api_keys_file=file).api_keys
    assert [recognise(entries, key.encode()) for key in keys] == [0, 1]
    assert not any(key in file.read_text() for key in keys)


@pytest.mark.parametrize("arguments", [["a b"], ["shop", "--scopes", "everything"]])
def test_the_command_refuses_what_no_entry_can_say(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", *arguments]) == 1
    assert "scopes are predict, attention and admin" in capsys.readouterr().err


def test_a_key_has_a_last_day(tmp_path: Path) -> None:
    _, entry = make_key("guest", ["predict"], date(2027, 1, 31))
    assert str(entry).endswith(":2027-01-31")
    assert ApiKey.parse(str(entry)) == entry
    assert not entry.is_over(date(2027, 1, 31))
    assert entry.is_over(date(2027, 2, 1))
    assert not ApiKey.parse(str(entry).removesuffix(":2027-01-31")).is_over(date.max)
    with pytest.raises(ValueError, match="no calendar"):
        ApiKey.parse(str(entry).replace("01-31", "02-31"))
    file = tmp_path / "keys"
    assert main(["key", "guest", "--expires", "2027-01-31", "--file", str(file)]) == 0
    assert read_api_keys(file)[0].expires == date(2027, 1, 31)


class Written:
    """What was written last, in place of a bulletin."""

    ring = Keyring()

    def write(self, text: bytes) -> None:
        self.ring = Keyring.parse(text)

    @property
    def numbers(self) -> dict[str, int]:
        return {known.key.name: known.number for known in self.ring.known}


def test_a_key_keeps_its_number_and_no_other_ever_gets_it() -> None:
    one, two, three = (make_key(name, ["predict"])[1] for name in ("one", "two", "three"))
    written = Written()
    keeper = Keeper(cast("Writer", written), [one, two])
    assert written.numbers == {"one": 1, "two": 2}
    keeper.keep([three, two])
    assert written.numbers == {"three": 3, "two": 2}
    keeper.keep([one, two])
    assert written.numbers == {"one": 1, "two": 2}
    with pytest.raises(ConfigError, match="more than 1000 API keys"):
        keeper.keep([make_key(f"k{i}", ["predict"])[1] for i in range(1001)])
    assert written.numbers == {"one": 1, "two": 2}


def test_a_file_with_a_fault_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, written = tmp_path / "keys", Written()
    one, two = (make_key(name, ["predict"])[1] for name in ("one", "two"))
    file.write_text(f"{one}\n")
    keeper = Keeper(cast("Writer", written), [one])
    rounds: list[Callable[[], object]] = [
        lambda: file.write_text(f"{one}\nnonsense\n"),
        lambda: file.write_text(f"{one}\n{two}\n"),
        file.unlink,
        lambda: file.write_text("# nobody\n"),
    ]
    seen: list[list[str]] = []

    def is_stopping(_: float) -> bool:
        seen.append(list(written.numbers))
        if not rounds:
            return len(seen) > 5
        rounds.pop(0)()
        return False

    follow_keys(keeper, file, is_stopping)
    assert seen == [
        ["one"],
        ["one"],
        ["one", "two"],
        ["one", "two"],
        ["one", "two"],
        ["one", "two"],
    ]
    assert caplog.text.count("stay as they are") == 3
