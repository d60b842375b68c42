"""The command line: ``python -m gsop`` or ``gsop``. Parsing only; ``commands`` does the work."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import gsop
from gsop.commands.models.arguments import add_models
from gsop.commands.options import add_device, add_quiet, add_store
from gsop.errors import GSoPError
from gsop.keys import KeyScope
from gsop.settings import Settings

RECIPE_OPTIONS = (
    ("--epochs", "schedule.epochs", float),
    ("--batch-size", "batch_size", int),
    ("--learning-rate", "optimizer.learning_rate", float),
    ("--workers", "workers", int),
    ("--seed", "seed", int),
)
"""Values of a recipe that have an option of their own: its name, the key, the type."""

# Each command imports its own module when it runs: `serve` must not wait for torch, which only
# its engines need, and `--help` must not wait for anything.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except GSoPError as error:
        print(f"gsop: error: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it returns has ``run``, the command as a function of it."""
    parser = argparse.ArgumentParser(
        prog="gsop",
        description="Serve, train and inspect GSoP-ResNets. Every GSOP_* variable of the "
        "environment is a default of these options.",
    )
    parser.add_argument("--version", action="version", version=gsop.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    _add_serve(commands.add_parser("serve", help="run the HTTP service"))
    _add_predict(commands.add_parser("predict", help="classify files without a server"))
    _add_train(commands.add_parser("train", help="train a network on images"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a stored model on images"))
    _add_publish(commands.add_parser("publish", help="put a finished run into the store"))
    _add_key(commands.add_parser("key", help="make an API key, and the entry that admits it"))
    _add_compare(commands.add_parser("compare", help="measure what the gates are worth"))
    add_models(commands.add_parser("models", help="look into the model store, and add to it"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--models", help="models to load: NAME or NAME/VERSION, comma-separated")
    parser.add_argument("--max-batch", type=int, help="most images in a batch")
    parser.add_argument("--slots", type=int, help="images in the service at once")
    parser.add_argument("--fronts", type=int, help="HTTP processes")
    parser.add_argument("--tls-certfile", type=Path, help="certificate chain (PEM): HTTPS only")
    parser.add_argument("--tls-keyfile", type=Path, help="its private key (PEM)")
    add_store(parser)
    add_device(parser)


def _serve(options: argparse.Namespace) -> int:
    from gsop.commands.serve import serve

    return serve(
        Settings.load(
            host=options.host,
            port=options.port,
            models=options.models,
            max_batch=options.max_batch,
            slots=options.slots,
            fronts=options.fronts,
            tls_certfile=options.tls_certfile,
            tls_keyfile=options.tls_keyfile,
            model_store=options.model_store,
            device=options.device,
        )
    )


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_key)
    parser.add_argument("name", help="the client's name, for the log")
    parser.add_argument(
        "--scopes",
        default="predict,attention",
        help=f"comma-separated: {', '.join(KeyScope)}; predict,attention if absent",
    )
    parser.add_argument("--file", type=Path, help="GSOP_API_KEYS_FILE to add the entry to")


def _key(options: argparse.Namespace) -> int:
    from gsop.commands.key import key

    return key(options.name, options.scopes.split(","), options.file)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_predict)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a glob")
    parser.add_argument("--model", help="NAME or NAME/VERSION; the first of GSOP_MODELS if absent")
    parser.add_argument("--top-k", type=int, default=5, help="predictions to list")
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument("--output", type=Path, help="file to write; standard output if absent")
    parser.add_argument("--attention", type=Path, help="npz file to write the gates to")
    add_store(parser)
    add_device(parser)
    add_quiet(parser)


def _predict(options: argparse.Namespace) -> int:
    from gsop.commands.predict import predict

    settings = Settings.load(model_store=options.model_store, device=options.device)
    with ExitStack() as stack:
        output = sys.stdout
        if options.output is not None:
            output = stack.enter_context(options.output.open("w", encoding="utf-8", newline=""))
        return predict(
            settings,
            options.paths,
            model=options.model or settings.models[0],
            top_k=options.top_k,
            form=options.format,
            output=output,
            attention=options.attention,
            progress=not options.quiet,
        )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_train)
    parser.description = (
        "Train a network and keep the run in a folder of its own. Under torchrun it is trained by "
        "several processes. SIGTERM and Ctrl-C write a checkpoint first."
    )
    parser.add_argument(
        "--recipe",
        default="small",
        metavar="PRESET|FILE",
        help="digits, small, finetune, cifar100, imagenet-net1, imagenet-net2, or a .toml or "
        ".json file of values (default: small)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the images: a folder for each class, or such folders in train/ and val/",
    )
    parser.add_argument(
        "--output", type=Path, dest="folder", metavar="DIR", help="folder to keep the run in"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run's folder")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="change a value of the recipe, as optimizer.learning_rate=0.01; repeatable",
    )
    for option, key, kind in RECIPE_OPTIONS:
        parser.add_argument(
            option, type=kind, dest=key, metavar="N", help=f"the same as --set {key}=N"
        )
    parser.add_argument(
        "--show", action="store_true", help="print the recipe as it would be, and train nothing"
    )
    add_device(parser)
    add_quiet(parser)


def _train(options: argparse.Namespace) -> int:
    from gsop.commands import train

    device = Settings.load(device=options.device).devices[0]
    if options.resume is not None:
        return train.go_on(options.resume, device=device, progress=not options.quiet)
    values = ((key, getattr(options, key)) for _, key, _ in RECIPE_OPTIONS)
    assignments = [f"{key}={value}" for key, value in values if value is not None]
    recipe = train.resolve(options.recipe, options.data, [*assignments, *options.assignments])
    if options.show:
        print(recipe.model_dump_json(indent=2))
        return 0
    return train.begin(recipe, options.folder, device=device, progress=not options.quiet)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_compare)
    parser.description = (
        "Train the same network plain, with each kind of gate, and with each head, from several "
        "seeds on one data set. Writes table.csv, table.md and plot.png. Finished trainings are "
        "kept: the same command goes on with the rest."
    )
    parser.add_argument(
        "--recipe",
        default="compare-textures",
        metavar="PRESET|FILE",
        help="what the trainings have in common: compare-textures, compare-digits, or any other "
        "recipe of `gsop train` (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the images, as in `gsop train`")
    parser.add_argument(
        "--variants",
        metavar="NAME,...",
        help="plain, SE, GSoP-channel, GSoP-position, GSoP-fusion, Net2 (these if absent), "
        "Net2-plain",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, a core each")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="change a value of the recipe, as schedule.steps=600; repeatable",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="runs/RECIPE if absent")
    add_device(parser)
    add_quiet(parser)


def _compare(options: argparse.Namespace) -> int:
    from gsop.commands.compare import compare
    from gsop.commands.train import resolve
    from gsop.train.compare import USUAL

    recipe = resolve(options.recipe, options.data, options.assignments)
    return compare(
        recipe,
        options.output or Path("runs") / recipe.name,
        variants=options.variants.split(",") if options.variants else USUAL,
        seeds=options.seeds,
        jobs=options.jobs,
        device=Settings.load(device=options.device).devices[0],
        progress=not options.quiet,
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    parser.description = "Answer labelled images as the service would, and say how well."
    parser.add_argument("model", help="NAME or NAME/VERSION")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder of images for each class, named as the labels; its val/ where it has one; "
        "the held-out part where the model was trained on it (default: the held-out images of "
        "the digits, CIFAR-100 or textures, for a model trained on those)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write the report to")
    add_store(parser)
    add_device(parser)
    add_quiet(parser)


def _evaluate(options: argparse.Namespace) -> int:
    from gsop.commands.evaluate import evaluate

    return evaluate(
        Settings.load(model_store=options.model_store, device=options.device),
        options.model,
        data=options.data,
        output=options.output,
        progress=not options.quiet,
    )


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_publish)
    parser.description = "Measure a finished run on its held-out images and put it into the store."
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--name", help="the model's name; the recipe's if absent")
    parser.add_argument("--version", help="the version's name; the next number if absent")
    add_store(parser)
    add_device(parser)


def _publish(options: argparse.Namespace) -> int:
    from gsop.commands.publish import publish_run

    return publish_run(
        Settings.load(model_store=options.model_store, device=options.device),
        options.folder,
        name=options.name,
        version=options.version,
    )


if __name__ == "__main__":
    sys.exit(main())
