"""What is handed out: one wheel for one commit, and a bill of materials that is whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from license_expression import get_spdx_licensing

from deploy.bom import EXTRAS, NVIDIA, Bill, check, complete, licence, needed, read, table
from tests.support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed() -> Bill:
    return read(sys.executable)


def copy(bill: Bill) -> Bill:
    copied: Bill = json.loads(json.dumps(bill))
    return copied


@pytest.fixture(scope="module")
def bill(installed: Bill) -> Bill:
    """The wheel's."""
    return complete(copy(installed), needed())


# ── the bill of materials ────────────────────────────────────────────────────────────────────────


def test_it_is_cyclonedx(bill: Bill) -> None:
    check(json.dumps(bill))
    with pytest.raises(ValueError, match="no CycloneDX"):
        check(json.dumps(bill | {"components": [{"name": "one of no type"}]}))


def test_it_holds_what_the_package_needs_and_nothing_else(bill: Bill) -> None:
    names = {part["name"].lower() for part in bill["components"]}
    assert {"torch", "numpy", "pillow", "fastapi", "starlette", "pydantic_core"} <= names
    assert not names & {"gsop", "pytest", "ruff", "mypy", "cyclonedx-bom", "scikit-learn", "onnx"}
    assert bill["metadata"]["component"]["name"] == "gsop"
    assert all(part["version"] and part["purl"] for part in bill["components"])


def test_it_says_what_needs_what(bill: Bill) -> None:
    edges = {
        edge["ref"].partition("==")[0]: edge.get("dependsOn", []) for edge in bill["dependencies"]
    }
    assert any(one.startswith("starlette==") for one in edges["fastapi"])
    assert any(one.startswith("torch==") for one in edges["root-component"])
    there = {part["bom-ref"] for part in bill["components"]}
    assert {one for needs in edges.values() for one in needs} <= there


def test_it_names_no_folder_of_this_machine(bill: Bill) -> None:
    assert str(ROOT) not in json.dumps(bill)
    assert "file://" not in json.dumps(bill)


def test_of_an_environment_it_tells_all(installed: Bill) -> None:
    here = copy(installed)
    here["components"] = [
        part for part in here["components"] if part["name"] in ("pytest", "torch")
    ]
    assert [part["name"] for part in complete(here)["components"]] == ["pytest", "torch"]


# ── licences ─────────────────────────────────────────────────────────────────────────────────────


def test_every_licence_is_known_and_listed(installed: Bill) -> None:
    """Also of what users install as an extra."""
    bill = complete(copy(installed), needed(EXTRAS))
    spdx = get_spdx_licensing()
    for part in bill["components"]:
        (said,) = part["licenses"]
        faults = spdx.validate(said["expression"]).invalid_symbols
        assert set(faults) <= {NVIDIA}, part["name"]
    listed = (ROOT / "docs/licences.md").read_text(encoding="utf-8").splitlines()
    missing = [row for row in table(bill, needed()).splitlines() if row not in listed]
    assert not missing, "docs/licences.md says how to make it anew"


def part(*licences: dict[str, Any]) -> dict[str, Any]:
    return {"name": "A_package", "licenses": list(licences)}


BSD = {"license": {"name": "License :: OSI Approved :: BSD License"}}
APACHE = {"license": {"name": "License :: OSI Approved :: Apache Software License"}}
MIT = {"license": {"id": "MIT"}}


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        ([MIT], "MIT"),
        ([{"expression": "MIT OR Apache-2.0"}], "MIT OR Apache-2.0"),
        ([MIT, BSD], "MIT"),
        ([APACHE], "Apache-2.0"),
    ],
)
def test_what_a_package_says_of_itself_counts(
    licences: list[dict[str, Any]], expression: str
) -> None:
    assert licence(part(*licences)) == expression


@pytest.mark.parametrize("licences", [[], [BSD], [MIT, {"license": {"id": "Zlib"}}]])
def test_a_licence_that_is_not_known_is_a_mistake(
    installed: Bill, licences: list[dict[str, Any]]
) -> None:
    """None, one of several of that name, or two of which nobody says how they go together."""
    with pytest.raises(LookupError):
        licence(part(*licences))
    bill = copy(installed)
    bill["components"].append(part(*licences) | {"bom-ref": "a-package"})
    with pytest.raises(LookupError, match="licences of a-package are not known"):
        complete(bill, needed() | {"a-package"})


# ── the wheel ────────────────────────────────────────────────────────────────────────────────────


def has_history() -> bool:
    look = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return (
        shutil.which("git") is not None
        and subprocess.run(look, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not has_history(), reason="a wheel is made of a commit")
def test_the_same_commit_makes_the_same_wheel(tmp_path: Path) -> None:
    """Whoever makes it, where and when."""
    made = []
    for number, (umask, zone) in enumerate([(0o022, "UTC"), (0o077, "Asia/Tokyo")]):
        folder = tmp_path / str(number)
        subprocess.run(
            [sys.executable, "-m", "deploy.wheel", "--output", str(folder)],
            cwd=ROOT,
            env=os.environ | {"TZ": zone, "PYTHONHASHSEED": str(number)},
            umask=umask,
            capture_output=True,
            check=True,
        )
        (wheel,) = folder.iterdir()
        made.append((wheel.name, wheel.read_bytes()))
    assert made[0] == made[1]
