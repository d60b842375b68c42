"""The arguments of ``gsop models``. Parsing only; the modules beside this one do the work."""

import argparse
from functools import partial
from pathlib import Path
from typing import get_args

from gsop.commands.models.live_arguments import add_live
from gsop.commands.options import (
    add_entry,
    add_held_out,
    add_quiet,
    add_reference,
    add_settings,
)
from gsop.model.config import Attention, Depth, Flavour, GatedBlocks, Head, Stem


def add_models(parser: argparse.ArgumentParser) -> None:
    """The commands below ``models``."""
    commands = parser.add_subparsers(title="commands", required=True)
    _add_list(commands.add_parser("list", help="every version in the store"))
    _add_show(commands.add_parser("show", help="one version: network, gates, cost"))
    _add_verify(commands.add_parser("verify", help="check versions against their manifests"))
    _add_import(commands.add_parser("import", help="publish one of the authors' checkpoints"))
    _add_init(commands.add_parser("init", help="publish a network to begin training from"))
    _add_export(commands.add_parser("export", help="write a version for other software"))
    _add_reference(commands.add_parser("reference", help="measure what drift is judged by"))
    _add_remove(commands.add_parser("remove", help="take a version out of the store"))
    _add_push(commands.add_parser("push", help="publish a version to a remote store"))
    _add_fetch(commands.add_parser("fetch", help="bring versions from the remote store"))
    add_live(commands)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.list:list_models")
    add_settings(parser, "model_store")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.show:show")
    add_settings(parser, "model_store")
    add_reference(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.verify:verify")
    add_settings(parser, "model_store")
    parser.add_argument(
        "references",
        nargs="*",
        metavar="NAME[/VERSION]",
        help="all versions of a model, or one version; the whole store if absent",
    )


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.import_checkpoint:import_checkpoint")
    add_settings(parser, "model_store")
    parser.description = (
        "Publish a checkpoint of the authors' release: {epoch, arch, state_dict, best_prec1, "
        "optimizer}, or its state dict alone (.pth, .pth.tar, .safetensors). The network is read "
        "off the tensors. Code in the file is never run."
    )
    parser.add_argument("checkpoint", type=Path, help="the checkpoint's file")
    parser.add_argument(
        "--fusion",
        choices=("fusion_avg", "fusion_max"),
        default="fusion_avg",
        help="how both gates were fused, if not by concatenation: the two have the same tensors, "
        "so a fusion_max checkpoint must be said to be one (default: %(default)s)",
    )
    _add_publication(parser)
    _add_labels(parser)
    _add_input(parser, usual="the paper's")


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.init:init")
    add_settings(parser, "model_store")
    parser.description = (
        "Publish an untrained GSoP-ResNet, or one that starts from a trained plain ResNet. On a "
        "backbone, with its own classes, --head gap and --last-stride 2, it answers exactly as "
        "the backbone does until it is trained: every gate starts neutral."
    )
    parser.add_argument(
        "--backbone",
        metavar="torchvision|FILE",
        help="a plain ResNet's weights: torchvision's for ImageNet, or a state dict under "
        "torchvision's names (.pth, .safetensors); needs --attention channel, se or none",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights that are drawn")
    _add_publication(parser)
    _add_network(parser)
    _add_labels(parser)
    _add_input(parser, usual="the backbone's, else the paper's")


def _add_network(parser: argparse.ArgumentParser) -> None:
    """An option a field of the network's configuration; absent, the backbone or it decides."""
    add = partial(add_entry, parser.add_argument_group("network"), "network")
    add("--depth", type=int, choices=get_args(Depth), help="the backbone's, else 50")
    add("--head", choices=get_args(Head), help="gap (GSoP-Net1) or isqrt (GSoP-Net2)")
    add("--attention", choices=get_args(Attention), help="what is gated; else channel")
    add("--flavour", choices=get_args(Flavour), help="the paper's gates or the article's")
    add("--gated-blocks", choices=get_args(GatedBlocks), help="of each stage; else last")
    add("--reduced-dim", type=int, metavar="N", help="channels of the gates' covariances; else 128")
    add(
        "--head-dim",
        type=int,
        metavar="N",
        help="channels of the isqrt head's covariance; else 256",
    )
    add("--base-width", type=int, metavar="N", help="channels of the first stage; else the paper's")
    add("--stem", choices=get_args(Stem), help="imagenet (224×224) or cifar (32×32)")
    add(
        "--last-stride",
        type=int,
        choices=(1, 2),
        help="of the last stage: 1 is the paper's, 2 torchvision's; else the backbone's, else 1",
    )
    add(
        "--classes",
        key="num_classes",
        type=int,
        metavar="N",
        help="length of the logits; else the labels', the backbone's, or 1000",
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.export:export")
    add_settings(parser, "model_store")
    parser.description = (
        "Write a version for other software. Input `images`: float32 (batch, 3, height, width), "
        "R, G, B, each (pixel / 255 - mean) / std as the version's manifest says. Outputs: "
        "`logits` (batch, classes), before the softmax, and each gate by its name, such as "
        "`layer1.2.channel`. The file says the same of itself, and carries the manifest."
    )
    add_reference(parser)
    parser.add_argument(
        "--format",
        dest="form",
        choices=("onnx", "pt2", "official"),
        required=True,
        help="onnx; pt2 (torch.export), both with any batch size; or official, a checkpoint that "
        "the authors' code resumes from",
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write or replace")


def _add_reference(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.reference:make")
    add_settings(parser, "model_store", "device")
    parser.description = (
        "Answer held-out images as the service would, and keep beside the version's weights what "
        "its gates look like: drift and familiarity are judged by that. `gsop publish` does it by "
        "itself. A service that has loaded the version reads it when it loads it again."
    )
    add_reference(parser)
    add_held_out(parser)
    add_quiet(parser)


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.remove:remove_model")
    add_settings(parser, "model_store")
    parser.description = (
        "Take a version out of the store for good. A service that has loaded it keeps it until "
        "it is restarted."
    )
    parser.add_argument("reference", metavar="NAME/VERSION")
    parser.add_argument("--yes", dest="confirmed", action="store_true", help="do not ask")


def _add_push(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.push:push_model")
    add_settings(parser, "model_store")
    parser.description = (
        "Publish a version of the store on this disk to one elsewhere (the extra `remote`). "
        "Nothing there is ever overwritten; what broke off can be pushed again."
    )
    add_reference(parser)
    parser.add_argument(
        "to",
        metavar="ADDRESS",
        help="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
    )


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function="models.fetch:fetch_models")
    add_settings(parser, "model_store", "remote_store", "store_bytes")
    parser.description = (
        "Bring versions from the remote store into the folder from which they are served, "
        "verified: so a service starts without waiting for them. `gsop serve` does it by itself."
    )
    parser.add_argument("references", nargs="+", metavar="NAME[/VERSION]")


def _add_publication(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--version", help="the version's name; the next number if absent")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="text with a line a class, in the order of the logits; if absent, ImageNet's names "
        "for 1000 classes (they come with torchvision), else `class 0`, `class 1`, …",
    )


def _add_input(parser: argparse.ArgumentParser, *, usual: str) -> None:
    group = parser.add_argument_group("input", f"How images are prepared; if absent, {usual}.")
    add = partial(add_entry, group, "input")
    add("--size", type=int, metavar="N", help="height and width; the paper's is 224")
    add(
        "--resize",
        type=int,
        metavar="N",
        help="short side that it is cut from; 8/7 of the size in the paper",
    )
    for name in ("--mean", "--std"):
        add(name, type=float, nargs=3, metavar=("R", "G", "B"), help="0 to 1")
    add("--interpolation", choices=("bilinear", "bicubic"), help="to enlarge")
