"""How a command is declared and run, and the options that commands share.

Each option is named after the parameter of the command's function that takes its value. A name with
a dot, ``group.key``, is one entry of a mapping: the parameter ``group`` gets those that were given.
So ``settings.port`` is a setting; what ``gsop.settings`` declares of it makes its option.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gsop.settings import THEMES, Settings, unknown_variables

METAVARS: dict[object, str] = {
    int: "N",
    float: "N",
    Path: "PATH",
    Path | None: "PATH",
    tuple[str, ...]: "A,B,...",
}
"""What stands for a value of a setting in the help; else the setting's name."""


class Parser(argparse.ArgumentParser):
    """A parser to which, and to whose commands, ``-`` is the path of nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", Path, _path)


def _path(text: str) -> Path:
    if text == "-":
        raise argparse.ArgumentTypeError(
            "- is neither standard input nor standard output here: name a file or folder, one that "
            "is called so as ./-"
        )
    return Path(text)


def standard_output_or_path(text: str) -> Path | None:
    """The value of an option by which a file is written, or with ``-`` the standard output."""
    return None if text == "-" else Path(text)


def run(options: argparse.Namespace) -> int:
    """Run the command that was parsed; the exit status.

    Args:
        options: with ``function``, ``module:name`` below ``gsop.commands``, which is imported only
            now: `serve` must not wait for torch, which its engines alone need, nor `--help` for
            anything.

    Raises:
        GSoPError: as the command does.
    """
    values: dict[str, Any] = {}
    for name, value in vars(options).items():
        group, dot, key = name.partition(".")
        if not dot:
            values[name] = value
            continue
        given = values.setdefault(group, {})
        if value is not None:
            given[key] = value
    module, _, function = values.pop("function").partition(":")
    if "settings" in values:
        values["settings"] = Settings.load(**values["settings"])
        for text in unknown_variables():
            print(f"gsop: warning: {text}", file=sys.stderr)
    return int(getattr(import_module(f"gsop.commands.{module}"), function)(**values))


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """An option for each of these settings; where it is absent, the environment decides."""
    for name in names:
        _add_setting(parser, name)


def add_all_settings(parser: argparse.ArgumentParser) -> None:
    """An option for every setting but secrets, which a list of processes would show, by themes."""
    group: argparse._ActionsContainer = parser
    for name, field in Settings.model_fields.items():
        if name in THEMES:
            group = parser.add_argument_group(THEMES[name])
        if field.repr:
            _add_setting(group, name)


def _add_setting(parser: argparse._ActionsContainer, name: str) -> None:
    field = Settings.model_fields[name]
    form: dict[str, Any] = {"metavar": METAVARS.get(field.annotation, name.upper())}
    if field.annotation is bool:
        form = {"action": argparse.BooleanOptionalAction}
    elif get_origin(field.annotation) is Literal:
        form = {"choices": get_args(field.annotation)}
    default = default_text(name)
    text = f"{field.description} (default: {default})" if default else str(field.description)
    option = f"--{name.replace('_', '-')}"
    add_entry(parser, "settings", option, help=text.replace("%", "%%"), **form)


def default_text(name: str) -> str:
    """The default of a setting as it is written in the environment; empty if there is none."""
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    if default is None:
        return ""
    return ",".join(default) if isinstance(default, tuple) else str(default)


def add_entry(
    parser: argparse._ActionsContainer, group: str, option: str, *, key: str = "", **form: Any
) -> None:
    """``--some-name``, the entry ``key`` (``some_name`` if absent) of the mapping ``group``."""
    key = key or option.removeprefix("--").replace("-", "_")
    parser.add_argument(option, dest=f"{group}.{key}", **form)


def add_reference(parser: argparse.ArgumentParser) -> None:
    """The version that a command is about."""
    parser.add_argument(
        "reference", metavar="NAME[/VERSION]", help="a version; the newest if NAME stands alone"
    )


def add_held_out(parser: argparse.ArgumentParser) -> None:
    """``--data``: images that a version is measured on."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder of images for each class, named as the labels; its val/ where it has one; "
        "the held-out part where the model was trained on it (default: the held-out images of "
        "the digits, CIFAR-100 or textures, for a model trained on those)",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """``--quiet``."""
    parser.add_argument(
        "--quiet", dest="progress", action="store_false", help="show no progress bar"
    )


def add_recipe(
    parser: argparse.ArgumentParser, *, default: str, choices: str, data: str, example: str
) -> None:
    """What is trained, and on what: ``--recipe``, ``--data``, ``--set``.

    Args:
        parser: to add them to.
        default: the recipe if none is named.
        choices: what can be named.
        data: what the images are.
        example: of an assignment.
    """
    parser.add_argument(
        "--recipe",
        default=default,
        metavar="PRESET|FILE",
        help=f"{choices} (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help=f"change a value of the recipe, as {example}; repeatable",
    )


def comma_separated(text: str) -> list[str]:
    """The parts of an option's value."""
    return text.split(",")
