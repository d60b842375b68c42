"""A skewed, mislabelled and duplicated set from images to report, by the commands that users have.

    python -m benchmarks.flawed --output benchmarks/results/flawed.json

``examples/make_flawed.py`` makes the set and knows its flaws. It is trained on, published and
evaluated (both parts), and each finding of the two reports is held against what is known. With
``--folder`` all of it is kept there, and what is there already is not made again.
"""

import argparse
import contextlib
import io
import json
import runpy
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from gsop.__main__ import main as gsop

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="to keep images, run, store and reports in")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(chosen.folder or Path(temporary)) | {"machine": describe()}
    print(table(found))
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, *options: str) -> dict[str, Any]:
    """From images to what the findings are worth.

    Args:
        folder: to work in.
        options: of ``gsop train``.
    """
    photos = folder / "photos"
    if not photos.exists():
        sys.path.insert(0, str(ROOT / "examples"))  # as if it were run there
        runpy.run_path(str(ROOT / "examples" / "make_flawed.py"))["make_flawed"](photos)
    flaws = json.loads((photos / "flaws.json").read_text(encoding="utf-8"))
    store = ("--model-store", str(folder / "store"))
    run = folder / "run"
    if (run / "recipe.json").exists():
        call("train", "--resume", str(run), "--quiet")
    else:
        call("train", "--data", str(photos), "--output", str(run), "--quiet", *options)
    if not (folder / "store" / "flawed").exists():
        call("publish", str(run), "--name", "flawed", *store)
    reports = {}
    for part in ("held-out", "training"):
        report = folder / f"report-{part}"
        evaluate = ("evaluate", "flawed", *store, "--data", str(photos), "--part", part)
        call(*evaluate, "--output", str(report), "--quiet")
        reports[part] = json.loads((report / "report.json").read_text(encoding="utf-8"))
    (manifest,) = (folder / "store" / "flawed").glob("*/manifest.json")
    metrics = json.loads(manifest.read_text(encoding="utf-8"))["metrics"]
    return judged(flaws, reports) | {"top1": metrics["top1"], "calibration": metrics["calibration"]}


def judged(flaws: dict[str, Any], reports: dict[str, Any]) -> dict[str, Any]:
    """What the reports name of the flaws, and what else they name.

    Args:
        flaws: as ``make_flawed`` tells them.
        reports: by the part of the images, ``report.json``.
    """
    held_out, training = reports["held-out"], reports["training"]
    wrong = {
        part: {short(name) for name in flaws["mislabelled"] if name.startswith(f"{part}/")}
        for part in ("train", "val")
    }
    return {
        "labels, held out": rate(wrong["val"], (s["file"] for s in held_out["suspects"])),
        "labels, training": rate(wrong["train"], (s["file"] for s in training["suspects"])),
        "duplicates": rate(pairs(flaws["duplicates"].items()), twins(held_out["duplicates"])),
        "leaks": rate(pairs(flaws["leaks"].items()), twins(held_out["leaks"])),
    }


def rate(known: Collection[Any], named: Iterable[Any]) -> dict[str, int]:
    """How many flaws there are, how many of them are named, and how many others."""
    named = {short(one) if isinstance(one, str) else one for one in named}
    hits = len(named & set(known))
    return {"flaws": len(known), "named": hits, "false": len(named) - hits}


def pairs(copies: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """A copy and its original, in no order."""
    return {frozenset((short(a), short(b))) for a, b in copies}


def twins(found: Iterable[dict[str, Any]]) -> set[frozenset[str]]:
    """The same of a report's pairs."""
    return pairs((one["first"], one["second"]) for one in found)


def short(name: str) -> str:
    """``class/file``, wherever the part's folder lies."""
    return "/".join(name.split("/")[-2:])


def call(*arguments: str) -> None:
    """A command of ``gsop``'s, which is to do what it is told."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        status = gsop(list(arguments))
    print(told.getvalue(), file=sys.stderr)
    assert status == 0, arguments


def table(found: dict[str, Any]) -> str:
    """What was measured, to read."""
    lines = ["| finding | flaws | of them named | others named |", "|---|---:|---:|---:|"]
    lines += [
        f"| {what} | {row['flaws']} | {row['named']} | {row['false']} |"
        for what, row in found.items()
        if isinstance(row, dict) and "flaws" in row
    ]
    sure = found["calibration"]
    return "\n".join(
        [
            *lines,
            f"\n{found['top1']:.2%} right; calibration error {sure['error_before']:.2%}, with the "
            f"temperature {sure['error']:.2%}",
        ]
    )


if __name__ == "__main__":
    main()
