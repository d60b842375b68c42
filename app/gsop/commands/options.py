"""Options that several commands share."""

import argparse
from pathlib import Path


def add_store(parser: argparse.ArgumentParser) -> None:
    """``--model-store``."""
    parser.add_argument("--model-store", type=Path, help="folder of the model versions")


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, …")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
