"""The documents keep up with the code."""

import re

import pytest

from app.errors import GSoPError, SetupError
from app.settings import Settings
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_readme_tells_every_setting_and_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    default = field.default
    text = ",".join(default) if isinstance(default, tuple) else str(default)
    text = f"`{text}`" if text else "none"
    rows = [line for line in README.splitlines() if line.startswith(f"| `GSOP_{name.upper()}` ")]
    assert rows == [f"| `GSOP_{name.upper()}` | {text} | {field.description} |"]


def test_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"GSOP_([A-Z_]*[A-Z])", README))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_readme_tells_every_error_code() -> None:
    def codes(root: type[GSoPError]) -> set[str]:
        return {root.code}.union(*(codes(child) for child in root.__subclasses__()))

    # "unavailable" is the root of three; SetupError never reaches a client.
    assert SetupError.code == "internal"
    for code in codes(GSoPError) - {"unavailable"}:
        assert f"`{code}`" in README


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_between_documents_hold(path: object) -> None:
    from pathlib import Path

    assert isinstance(path, Path)
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
