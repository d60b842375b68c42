"""Every setting has its option, and every option a parameter that takes its value."""

import argparse
import os
from collections.abc import Iterator
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import pytest

from gsop.__main__ import main
from gsop.commands.parser import make_parser
from gsop.settings import THEMES, Settings

SECRET = {"api_keys", "shared_url"}  # which may hold a password


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be run, by its whole name."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser.prog, parser
    for group in groups:
        for below in group.choices.values():
            yield from commands(below)


COMMANDS = dict(commands(make_parser()))


def destinations(command: str) -> list[str]:
    return [action.dest for action in COMMANDS[command]._actions if action.dest != "help"]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `gsop serve` would serve with; the environment says nothing of them."""
    for name in list(os.environ):
        if name.startswith("GSOP_"):
            monkeypatch.delenv(name)
    seen: list[Settings] = []

    def serve(settings: Settings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr("gsop.commands.serve.serve", serve)
    return seen


def test_serve_has_an_option_for_every_setting_but_secrets() -> None:
    expected = [f"settings.{name}" for name in Settings.model_fields if name not in SECRET]
    assert destinations("gsop serve") == expected


def test_every_theme_has_settings() -> None:
    groups = [(g.title, len(g._group_actions)) for g in COMMANDS["gsop serve"]._action_groups]
    themes = groups[2:]  # the first two are argparse's own
    assert [title for title, _ in themes] == list(THEMES.values())
    assert all(size for _, size in themes)
    assert sum(size for _, size in themes) == len(Settings.model_fields) - len(SECRET)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--host", "::1"], "host", "::1"),
        (["--max-batch", "7"], "max_batch", 7),
        (["--drain-seconds", "1.5"], "drain_seconds", 1.5),
        (["--tls-certfile", "chain.pem"], "tls_certfile", Path("chain.pem")),
        (["--model-store", "elsewhere"], "model_store", Path("elsewhere")),
        (["--models", "a, b/2"], "models", ("a", "b/2")),
        (["--precision", "float16"], "precision", "float16"),
        (["--allow-anonymous"], "allow_anonymous", True),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_option_of_each_kind_sets_its_setting(
    seen: list[Settings], arguments: list[str], name: str, value: object
) -> None:
    assert main(["serve", *arguments]) == 0
    assert seen == [Settings.load(**{name: value})]
    assert seen != [Settings.load()]


def test_the_option_wins_over_the_variable(
    seen: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSOP_ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("GSOP_SLOTS", "9")
    assert main(["serve", "--no-allow-anonymous"]) == 0
    assert (seen[0].allow_anonymous, seen[0].slots) == (False, 9)


def test_a_wrong_value_names_its_variable(
    seen: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "http"]) == 1
    assert "GSOP_PORT: Input should be a valid integer" in capsys.readouterr().err
    assert not seen


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_a_parameter_of_the_commands_function(command: str) -> None:
    module, _, name = COMMANDS[command].get_default("function").partition(":")
    function = getattr(import_module(f"gsop.commands.{module}"), name)
    parameters = signature(function).parameters.values()
    assert all(parameter.default is Parameter.empty for parameter in parameters)
    assert {parameter.name for parameter in parameters} == {
        destination.partition(".")[0] for destination in destinations(command)
    }


PATHS = [
    (command, action)
    for command, parser in COMMANDS.items()
    for action in parser._actions
    if action.type is Path and action.option_strings
]


@pytest.mark.parametrize(("command", "action"), PATHS, ids=lambda x: getattr(x, "dest", x))
def test_a_dash_is_no_file_but_where_it_is_standard_output(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    (option,) = action.option_strings
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([*command.split()[1:], f"{option}=-"])
    assert ended.value.code == 2
    assert f"argument {option}: - is neither" in capsys.readouterr().err


def test_a_dash_is_where_predictions_go_without_a_file() -> None:
    def output(*arguments: str) -> object:
        return make_parser().parse_args(["predict", "a.png", *arguments]).output

    assert output() is output("--output", "-") is None
    assert output("--output", "./-") == Path("-")
