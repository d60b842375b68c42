"""What is inside: a bill of materials (CycloneDX 1.6) with a licence for every part.

    python -m deploy.bom --output gsop.cdx.json               # of the wheel: what it needs, as here
    python -m deploy.bom --extras train export --licences     # as a table, for docs/licences.md
    python deploy/bom.py --environment VENV/bin/python -o …   # of all that an environment holds

cyclonedx-py reads it off the installed packages; nothing is asked of a network. The same packages
give the same bytes. A package whose licence is not known is a mistake: look at its licence's text,
and enter it in :data:`READ_BY_HAND`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent.parent
ROOT_PACKAGE = "gsop"
EXTRAS = (
    *("train", "search", "torchvision", "export", "openvino", "heif", "frames"),
    *("otel", "remote", "shared"),
)
"""Those that users install; ``fuzz`` and ``dev`` are for who works on the project."""

NVIDIA = "LicenseRef-NVIDIA-Proprietary"
"""CUDA's libraries: may be used and passed on with a program; the SPDX list has no name for it."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    NVIDIA: NVIDIA,
}
"""What packages say that give their licence no name of the SPDX list, where that is one licence."""

READ_BY_HAND = {
    "aiohappyeyeballs": "PSF-2.0",
    "contourpy": "BSD-3-Clause",
    "cuda-toolkit": NVIDIA,
    "cycler": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "nvidia-cuda-cupti": NVIDIA,
    "nvidia-cuda-nvrtc": NVIDIA,
    "nvidia-cufft": NVIDIA,
    "nvidia-cufile": NVIDIA,
    "nvidia-curand": NVIDIA,
    "nvidia-cusolver": NVIDIA,
    "nvidia-cusparse": NVIDIA,
    "nvidia-cusparselt-cu13": NVIDIA,
    "nvidia-nvtx": NVIDIA,
    # Its own scripts are MIT's, OpenCV is Apache's, and FFmpeg is in the wheel.
    "opencv-python-headless": "Apache-2.0 AND MIT AND LGPL-2.1-or-later",
    # Its own code is BSD's; libheif and libde265 are in the wheel.
    "pi-heif": "BSD-3-Clause AND LGPL-3.0-or-later",
    "protobuf": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torchvision": "BSD-3-Clause",
    "uvloop": "MIT OR Apache-2.0",
}
"""By package: licences that the packages themselves do not name, or not in full."""

Bill = dict[str, Any]
"""A bill of materials, as JSON has it."""


def read(python: str) -> Bill:
    """What is installed where that interpreter looks, as cyclonedx-py sees it."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", python]
    options = ["--pyproject", str(SOURCE / "pyproject.toml"), "--output-reproducible"]
    # Checked at the end, when it is whole; to check it takes most of the time.
    options += ["--spec-version", "1.6", "--no-validate", "--output-file", "-"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cyclonedx-py ended with {done.returncode}: {done.stderr}")
    bill: Bill = json.loads(done.stdout)
    return bill


def needed(extras: Iterable[str] = ()) -> set[str]:
    """The names of the packages that this one needs here, with those that they need."""
    from packaging.requirements import Requirement  # only who works on the project has it

    found: set[str] = set()
    asked: set[tuple[str, str]] = set()
    waiting = [(ROOT_PACKAGE, extra) for extra in ("", *extras)]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) in asked:
            continue
        asked.add((package, extra))
        try:
            requirements = distribution(package).requires or ()
        except PackageNotFoundError:  # of another system, or of another Python
            continue
        found.add(package)
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                name = canonical(requirement.name)
                waiting += [(name, wanted) for wanted in ("", *requirement.extras)]
    return found - {ROOT_PACKAGE}


def canonical(name: str) -> str:
    """A package's name as registries compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def complete(bill: Bill, packages: set[str] | None = None) -> Bill:
    """The bill with the package's own version, and one licence for every part.

    Args:
        bill: as :func:`read` gives it.
        packages: which to keep, by canonical names; all if absent.

    Raises:
        LookupError: if a licence is not known; it names all such packages.
    """
    parts = {canonical(part["name"]): part for part in bill["components"]}
    own = parts.pop(ROOT_PACKAGE, None)
    root = bill["metadata"]["component"]
    if own is not None:
        root |= {"version": own["version"], "purl": f"pkg:pypi/{ROOT_PACKAGE}@{own['version']}"}
    kept = {name: part for name, part in parts.items() if packages is None or name in packages}
    unknown = []
    for name, part in kept.items():
        try:
            expression = licence(part)
        except LookupError:
            unknown.append(name)
        else:
            part["licenses"] = [{"expression": expression, "acknowledgement": "declared"}]
    if unknown:
        raise LookupError(
            f"the licences of {', '.join(sorted(unknown))} are not known: read their texts, and "
            "enter them in READ_BY_HAND of deploy/bom.py"
        )
    references = {root["bom-ref"], *(part["bom-ref"] for part in kept.values())}
    return bill | {
        "components": [kept[name] for name in sorted(kept)],
        "dependencies": list(_edges(bill["dependencies"], references)),
    }


def _edges(dependencies: Iterable[Mapping[str, Any]], references: set[str]) -> Iterator[Bill]:
    for edge in dependencies:
        if edge["ref"] in references:
            needs = [
                reference for reference in edge.get("dependsOn", ()) if reference in references
            ]
            yield {"ref": edge["ref"]} | ({"dependsOn": needs} if needs else {})


def licence(part: Mapping[str, Any]) -> str:
    """The licence of a part, as an expression of SPDX's.

    Raises:
        LookupError: if it is not known.
    """
    if by_hand := READ_BY_HAND.get(canonical(part["name"])):
        return by_hand
    said = part.get("licenses", ())
    found = {entry["expression"] for entry in said if "expression" in entry}
    licences = [entry["license"] for entry in said if "license" in entry]
    found |= {one["id"] for one in licences if "id" in one}
    if not found:  # names are often no more than what an id has said
        found = {CLASSIFIERS[one["name"]] for one in licences if one["name"] in CLASSIFIERS}
    if len(found) != 1:
        raise LookupError(part["name"])
    return str(found.pop())


def table(bill: Bill, by_default: set[str]) -> str:
    """Its packages and their licences, in Markdown.

    Args:
        bill: of the package with its extras.
        by_default: what is installed without extras.
    """
    rows = ["| package | licence | |", "| --- | --- | --- |"]
    for part in bill["components"]:
        name = canonical(part["name"])
        (said,) = part["licenses"]
        rows.append(f"| {name} | {said['expression']} | {'' if name in by_default else 'extra'} |")
    return "\n".join(rows)


def check(text: str) -> None:
    """See that it is CycloneDX.

    Raises:
        ValueError: if it is not.
    """
    from cyclonedx.schema import SchemaVersion  # only who makes bills has it
    from cyclonedx.validation.json import JsonStrictValidator

    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill of materials is no CycloneDX: {fault}")


def main() -> None:
    """Write a bill, or the table of licences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--environment", metavar="PYTHON", help="tell of all that is installed there"
    )
    parser.add_argument("--extras", nargs="*", default=[], choices=EXTRAS)
    parser.add_argument("--licences", action="store_true", help="print a table instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("/dev/stdout"))
    options = parser.parse_args()
    whole = options.environment is not None
    bill = read(options.environment or sys.executable)
    try:
        bill = complete(bill, None if whole else needed(options.extras))
    except LookupError as error:
        raise SystemExit(str(error)) from None
    if options.licences:
        print(table(bill, needed()))
        return
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    check(text)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
