"""The command line. Parsing only: the modules beside this one do the work."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import gsop
from gsop.commands.models.arguments import add_models
from gsop.commands.options import (
    Parser,
    add_all_settings,
    add_entry,
    add_held_out,
    add_quiet,
    add_recipe,
    add_reference,
    add_settings,
    comma_separated,
    run,
    standard_output_or_path,
)
from gsop.commands.size_arguments import add_size
from gsop.errors import GSoPError
from gsop.keys import KeyScope

RECIPE_OPTIONS = (
    ("--epochs", "schedule.epochs", float),
    ("--batch-size", "batch_size", int),
    ("--learning-rate", "optimizer.learning_rate", float),
    ("--workers", "workers", int),
    ("--seed", "seed", int),
)
"""Values of a recipe that have an option of their own: its name, the key, the type."""


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status.

    Args:
        arguments: of the command line; this process's own if ``None``.
    """
    options = make_parser().parse_args(arguments)
    try:
        status = run(options)
        sys.stdout.flush()
    except GSoPError as error:
        print(f"gsop: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output, `head` for instance, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; :func:`gsop.commands.options.run` runs what it returns."""
    parser = Parser(
        prog="gsop",
        description="Serve, train and inspect GSoP-ResNets. Every GSOP_* variable of the "
        "environment is a default of these options.",
    )
    parser.add_argument("--version", action="version", version=gsop.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    _add_serve(commands.add_parser("serve", help="run the HTTP service"))
    _add_predict(commands.add_parser("predict", help="classify files without a server"))
    _add_inspect(commands.add_parser("inspect", help="look inside of a network, for one image"))
    _add_attention(commands.add_parser("attention", help="compare the gates of many images"))
    _add_train(commands.add_parser("train", help="train a network on images"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a stored model on images"))
    _add_publish(commands.add_parser("publish", help="put a finished run into the store"))
    _add_key(commands.add_parser("key", help="make an API key, and the entry that admits it"))
    _add_compare(commands.add_parser("compare", help="measure what the gates are worth"))
    _add_search(commands.add_parser("search", help="look for a better recipe"))
    add_size(commands.add_parser("size", help="say what a rate needs: instances, cores, slots"))
    add_models(commands.add_parser("models", help="look into the model store, and add to it"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="serve:serve")
    parser.description = (
        "Run the HTTP service until SIGTERM or Ctrl-C. Each option is the variable of its name in "
        "the environment too: --max-batch is GSOP_MAX_BATCH. The option wins. API keys have no "
        "option, as a list of processes would show them: set GSOP_API_KEYS or --api-keys-file."
    )
    add_all_settings(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="predict:predict")
    add_settings(parser, "model_store", "device")
    parser.add_argument("patterns", nargs="+", metavar="PATH", help="a file, a folder or a glob")
    parser.add_argument("--model", help="NAME or NAME/VERSION; the first of GSOP_MODELS if absent")
    parser.add_argument("--top-k", type=int, default=5, help="predictions to list")
    parser.add_argument("--format", dest="form", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument(
        "--output",
        type=standard_output_or_path,
        metavar="FILE",
        help="file to write; standard output if absent, or -",
    )
    parser.add_argument(
        "--attention",
        type=Path,
        metavar="FILE.npz|DIR",
        help="an npz file to write the gates to; or a folder, which gets all answers as Parquet "
        "files, part by part: the same command goes on with what is missing",
    )
    add_quiet(parser)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="inspect:inspect")
    add_settings(parser, "model_store", "torch_threads")
    parser.description = (
        "Take the gates of one answer apart: the covariance behind each, its spectrum, the reduced "
        "features, the gate before and after its sigmoid; what the answer would be with other "
        "gates; and the channels that matter most for it, found by closing each of them alone. "
        "Computed in float64 on the CPU."
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the file")
    parser.add_argument("--model", help="NAME or NAME/VERSION; the first of GSOP_MODELS if absent")
    parser.add_argument(
        "--other", type=Path, metavar="IMAGE", help="another image, whose gates are put in too"
    )
    parser.add_argument(
        "--gates",
        type=comma_separated,
        metavar="NAME,...",
        help="gates whose channels are closed one by one, as layer4.1.channel; all if absent",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("inspection.html"),
        metavar="FILE",
        help="a report (.html) or all numbers (.npz) (default: %(default)s)",
    )
    add_quiet(parser)


def _add_attention(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="attention:attention")
    add_settings(parser, "model_store", "device")
    parser.description = (
        "Compare the gates of groups of images: their means, the channels that separate the groups "
        "most, and the gates that never open or close."
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="of images, or of answers that `gsop predict --attention DIR` wrote",
    )
    parser.add_argument(
        "--by",
        choices=("class", "folder"),
        default="class",
        help="what makes a group: the predicted class, or the folder that an image lies in "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--against",
        metavar="FOLDER|NAME[/VERSION]",
        help="compare with another folder, or with another version's gates of the same images",
    )
    parser.add_argument("--model", help="NAME or NAME/VERSION; the first of GSOP_MODELS if absent")
    parser.add_argument(
        "--scale",
        choices=("full", "half", "logit"),
        default="full",
        help="of the colours: 0 to 1; 0.4 to 0.6, which shows what lies near one half; or by "
        "logits, which shows what lies near the ends (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="HTML file for a report")
    add_quiet(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="train:run")
    add_settings(parser, "device")
    parser.description = (
        "Train a network and keep the run in a folder of its own. Under torchrun it is trained by "
        "several processes. SIGTERM and Ctrl-C write a checkpoint first."
    )
    add_recipe(
        parser,
        default="small",
        choices="digits, small, finetune, cifar100, imagenet-net1, imagenet-net2, or a .toml or "
        ".json file of values",
        data="the images: a folder for each class, or such folders in train/ and val/",
        example="optimizer.learning_rate=0.01",
    )
    parser.add_argument(
        "--output", type=Path, dest="folder", metavar="DIR", help="folder to keep the run in"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run's folder")
    for option, key, kind in RECIPE_OPTIONS:
        same = f"the same as --set {key}=N"
        add_entry(parser, "values", option, key=key, type=kind, metavar="N", help=same)
    add_entry(
        parser,
        "values",
        "--backbone",
        metavar="torchvision|FILE",
        help="start from these trained weights: the same as --set backbone=...; a file of "
        "torchvision's, timm's or Hugging Face's",
    )
    for option, key, what in (
        ("--balanced", "balance.draw", "draw all classes equally often"),
        ("--class-weights", "balance.loss", "have all classes count the same in the loss"),
    ):
        same = f"{what}: the same as --set {key}=1"
        add_entry(parser, "values", option, key=key, action="store_const", const=1, help=same)
    parser.add_argument(
        "--track",
        type=comma_separated,
        default=[],
        metavar="NAME,...",
        help="tell mlflow or wandb of the run too: the same as --set 'trackers=[\"NAME\"]'",
    )
    parser.add_argument(
        "--show", action="store_true", help="print the recipe as it would be, and train nothing"
    )
    parser.add_argument(
        "--find-lr",
        action="store_true",
        help="look for the learning rate: 100 steps at rising rates, of which nothing is kept but "
        "a picture and the numbers (--output DIR)",
    )
    add_quiet(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="search:run")
    add_settings(parser, "device")
    parser.description = (
        "Train variations of a recipe, each in a run of its own, and keep the best one's recipe. "
        "They are judged by the loss on held-out images; those that fall behind end early. The "
        "same command goes on with a search, and started twice, the two share it. Needs Optuna: "
        "the extra `search`."
    )
    add_recipe(
        parser,
        default="small",
        choices="what the trials have in common: a recipe of `gsop train`",
        data="the images, as in `gsop train`",
        example="schedule.epochs=10",
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="what is varied: KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=VALUE,VALUE; repeatable "
        "(default: optimizer.learning_rate and optimizer.weight_decay)",
    )
    parser.add_argument(
        "--trials", type=int, default=20, help="how many in all (default: %(default)s)"
    )
    parser.add_argument(
        "--pruning",
        choices=("median", "hyperband", "none"),
        default="median",
        help="which trials end early (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        dest="folder",
        metavar="DIR",
        help="of the search (default: runs/RECIPE-search)",
    )
    add_quiet(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="evaluate:evaluate")
    add_settings(parser, "model_store", "device")
    parser.description = (
        "Answer labelled images as the service would, and say how well, which are wrong, and what "
        "may be why. With --output it writes report.html, one file that opens anywhere, and what "
        "is in it as tables, pictures and JSON."
    )
    add_reference(parser)
    add_held_out(parser)
    parser.add_argument(
        "--part",
        choices=("held-out", "training"),
        default="held-out",
        help="of the folder that the model was trained on; training: to find wrong labels there",
    )
    parser.add_argument(
        "--against", metavar="NAME[/VERSION]", help="a version to compare with, image by image"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write the report to")
    parser.add_argument(
        "--rows",
        choices=("csv", "parquet"),
        default="csv",
        help="form of the file with a row an image (default: %(default)s)",
    )
    add_quiet(parser)


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="publish:publish_run")
    add_settings(parser, "model_store", "device")
    parser.description = "Measure a finished run on its held-out images and put it into the store."
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--name", help="the model's name; the recipe's if absent")
    parser.add_argument("--version", help="the version's name; the next number if absent")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="key:key")
    parser.add_argument("name", help="the client's name, for the log")
    parser.add_argument(
        "--scopes",
        type=comma_separated,
        default="predict,attention",
        help=f"comma-separated: {', '.join(KeyScope)} (default: %(default)s)",
    )
    parser.add_argument(
        "--expires",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="the last day on which it counts, UTC",
    )
    parser.add_argument("--file", type=Path, help="GSOP_API_KEYS_FILE to add the entry to")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="compare:run")
    add_settings(parser, "device")
    parser.description = (
        "Train the same network plain, with each kind of gate, and with each head, from several "
        "seeds on one data set. Writes table.csv, table.md and plot.png. Finished trainings are "
        "kept: the same command goes on with the rest."
    )
    add_recipe(
        parser,
        default="compare-textures",
        choices="what the trainings have in common: compare-textures, compare-digits, or any "
        "other recipe of `gsop train`",
        data="the images, as in `gsop train`",
        example="schedule.steps=600",
    )
    parser.add_argument(
        "--variants",
        type=comma_separated,
        metavar="NAME,...",
        help="plain, SE, GSoP-channel, GSoP-position, GSoP-fusion, Net2 (these if absent), "
        "Net2-plain",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, a core each")
    parser.add_argument(
        "--output", type=Path, dest="folder", metavar="DIR", help="runs/RECIPE if absent"
    )
    add_quiet(parser)
