"""The documents keep up with the code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsop.api.http.problems import BY_STATUS
from gsop.commands.options import default_text
from gsop.commands.parser import make_parser
from gsop.errors import GSoPError, SetupError
from gsop.settings import Settings
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_readme_tells_every_setting_and_its_default(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # a default depends on it
    default = default_text(name)
    text = f"`{default}`" if default else "none"
    rows = [line for line in README.splitlines() if line.startswith(f"| `GSOP_{name.upper()}` ")]
    description = Settings.model_fields[name].description
    assert rows == [f"| `GSOP_{name.upper()}` | {text} | {description} |"]


def test_readme_tells_the_settings_in_their_order() -> None:
    rows = re.findall(r"^\| `GSOP_([A-Z_]+)` ", README, re.MULTILINE)
    assert rows == [name.upper() for name in Settings.model_fields]


def test_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"GSOP_([A-Z_]*[A-Z])", README))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_readme_tells_every_error_code_beside_its_status() -> None:
    def below(root: type[GSoPError]) -> Iterator[tuple[str, int]]:
        yield root.code, root.status
        for child in root.__subclasses__():
            yield from below(child)

    # "unavailable" is the root of three; SetupError never reaches a client.
    assert SetupError.code == "internal"
    expected = dict(below(GSoPError)) | {code: status for status, (code, _) in BY_STATUS.items()}
    del expected["unavailable"]
    table = README.partition("| status | codes |\n")[2].partition("\n\n")[0].splitlines()[1:]
    told = {}
    for row in table:
        statuses, codes = row.split("|")[1:3]
        for code in re.findall(r"`([a-z_]+)`", codes):
            told[code] = {int(status) for status in statuses.split(",")}
    assert told.keys() == expected.keys()
    assert all(status in told[code] for code, status in expected.items())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_hold(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_the_commands_in_the_documents_are_commands(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for kind, block in blocks:
        prompt = r"\$ .*" if kind == "console" else ".*"
        for called in re.findall(rf"^{prompt}\b(?:gsop|-m gsop) ([a-z].*)", block, re.MULTILINE):
            arguments = shlex.split(called, comments=True)
            end = next((i for i, a in enumerate(arguments) if a in ("|", ">", "&")), None)
            make_parser().parse_args(arguments[:end])


def test_nothing_is_installed_by_a_name_that_a_stranger_could_take() -> None:
    """In no public index is the name this project's: an extra comes from a checkout or a wheel."""
    sources = [*DOCUMENTS, *(ROOT / "app").rglob("*.py")]
    named = [p for p in sources if re.search(r"install\s+['\"]*gsop\b", p.read_text("utf-8"))]
    assert named == []
    assert "pip install '.[train]'" in README


def test_readme_tells_where_its_commands_are_before_it_uses_them() -> None:
    first = re.search(r"^(?:\$ )?(?:gsop|python) ", README, re.MULTILINE)
    assert first is not None
    assert 0 < README.index("make install && . .venv/bin/activate") < first.start()


def test_every_report_that_is_listed_as_tried_is_a_test_and_the_other_way_round() -> None:
    """A test is called by its report: as a case's id, or as a function's name."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.partition("`tests/test_reported.py`")[2]
    report = r"[\w.-]+/[\w.-]+#\d+"
    listed = set(re.findall(rf"(?<!\S)({report})", table))
    files = [ROOT / "tests" / "test_reported.py", ROOT / "tests/api/http/test_reported.py"]
    tests = "\n".join(file.read_text(encoding="utf-8") for file in files)
    cases = set(re.findall(rf'"({report})"', tests))
    functions = set(re.findall(r"^def test_(\w+_\d+)\(", tests, re.MULTILINE))
    called = {name: re.sub(r"\W", "_", name).lower() for name in listed - cases}
    assert len(listed) >= 30
    assert cases <= listed
    assert sorted(called.values()) == sorted(functions)


def test_every_test_that_is_named_is_there() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?([\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 57
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
