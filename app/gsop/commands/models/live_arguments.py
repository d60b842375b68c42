"""The arguments of those commands of ``gsop models`` that change a service which runs."""

import argparse
from pathlib import Path

from gsop.commands.options import add_entry

KEY = (
    "The service's API key, if it wants one, is that of GSOP_CLIENT_KEY; it needs the scope admin."
)


def add_live(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    _add_load(_add(commands, "load", "load a version into a service that runs"))
    _add_unload(_add(commands, "unload", "unload a version"))
    _add_traffic(_add(commands, "traffic", "show or change how requests are spread"))
    for name, text in (
        ("promote", "make the canary the stable version"),
        ("rollback", "take the canary's share, or go back to the version before"),
        ("compare-live", "the stable version beside its canary and its shadow"),
    ):
        _add(commands, name, text).add_argument("name", help="the model's name")
    _add_drift(_add(commands, "drift", "how far the gates are from the version's reference"))


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.set_defaults(function=f"models.live:{name.replace('-', '_')}")
    parser.description = f"{text[0].upper()}{text[1:]}. {KEY}"
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="of the service (default: %(default)s)"
    )
    return parser


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="NAME/VERSION", help="in the store that it reads")
    parser.add_argument(
        "--policy",
        choices=("availability", "resource"),
        default="availability",
        help="load it beside the versions that serve (default), or end their engines first, where "
        "a device has no memory for both: requests wait meanwhile",
    )
    parser.add_argument("--sha256", help="of the weights that it must have")


def _add_drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reference", metavar="NAME[/VERSION]", help="a model's stable version, or another one"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="PNG to write")


def _add_unload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="NAME/VERSION")
    parser.add_argument(
        "--force", action="store_true", help="take a canary's or a shadow's share first"
    )


def _add_traffic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the model's name")
    group = parser.add_argument_group("shares", "What is not named stays as it is.")
    for option, text in (
        ("--stable", "the version that answers whatever no other does"),
        ("--canary", "a version on trial"),
        ("--shadow", "a version that gets copies, whose answers are compared"),
        ("--sticky", "what a request's version sticks to: key, or header:NAME"),
    ):
        add_entry(
            group, "shares", option, metavar="VERSION" if "y" not in option else "WHAT", help=text
        )
    add_entry(group, "shares", "--percent", type=float, metavar="N", help="the canary's share")
    add_entry(
        group,
        "shares",
        "--auto-rollback",
        action=argparse.BooleanOptionalAction,
        help="take the canary's share if it does worse",
    )
    parser.add_argument(
        "--clear",
        nargs="+",
        choices=("canary", "shadow", "sticky"),
        default=(),
        help="what there is to be no longer",
    )
