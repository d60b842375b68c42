"""The arguments of ``gsop size``."""

import argparse
from pathlib import Path

from gsop.commands.options import add_entry, add_settings

RATES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.set_defaults(function="size:size")
    add_settings(
        parser,
        *("model_store", "device", "precision", "backend", "max_batch", "torch_threads"),
    )
    parser.description = (
        "Say how many instances, cores and slots a rate needs so that 99 of 100 requests are "
        "answered in time, of what a request costs as it was measured. One instance more than "
        "that is always there, so that one may be away."
    )
    parser.add_argument(
        "--rate",
        type=float,
        nargs="+",
        dest="rates",
        default=RATES,
        metavar="N",
        help="requests a second, of one image each (default: 1 10 100 1000 10000)",
    )
    parser.add_argument(
        "--p99",
        type=float,
        default=100.0,
        metavar="MS",
        help="what 99 of 100 requests may take, in ms, without the network (default: %(default)g)",
    )
    parser.add_argument(
        "--measure",
        type=Path,
        dest="image",
        metavar="IMAGE",
        help="measure here first, with an image as clients send them: half a minute, on a machine "
        "that has little else to do; a CPU's forward has one thread, or --torch-threads",
    )
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="take what was measured, elsewhere or before"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="keep what is measured, for --figures"
    )
    parser.add_argument("--model", help="NAME or NAME/VERSION; the first of GSOP_MODELS if absent")
    parser.add_argument(
        "--share",
        type=float,
        default=0.7,
        metavar="N",
        help="of what a device and a core can do, use at most so much (default: %(default)g)",
    )
    for name in ("core", "device"):
        add_entry(
            parser,
            "prices",
            f"--{name}-price",
            key=name,
            type=float,
            metavar="N",
            help=f"of an hour of a {name}, to say what it costs",
        )
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="print JSON in place of a table"
    )
