"""What the documents show of calls, clients and files: run against a service, read by its readers.

Commands of ``gsop`` are parsed in ``tests/test_docs.py``. Other Python is run elsewhere: gRPC's in
``tests/api/oip/test_grpc.py``, what needs no service in the files that are named below.
"""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gsop.serving.desired import Desired
from gsop.train.overrides import find_recipe
from tests.support import ROOT, Server

pytestmark = pytest.mark.slow

DOCUMENTS = {path.name: path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
RUN_ELSEWHERE = {
    ("README.md", "pycon"): "tests/test_face.py",
    ("notebook.md", "pycon"): "tests/test_face.py",
    ("model.md", "python"): "tests/model/test_documentation.py",
    ("gates.md", "python"): "tests/model/test_documentation.py",
}
RUN_HERE = {
    ("protocols.md", "python"),
    ("training.md", "toml"),
    ("versions.md", "json"),
    ("operations.md", "yaml"),
}


def blocks(page: str, kind: str) -> list[str]:
    text = DOCUMENTS[page].read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_block_that_can_be_run_is_run_somewhere() -> None:
    known = {"bibtex", "math", "console", "sh", ""}
    found = {
        (page, kind)
        for page, path in DOCUMENTS.items()
        for kind in re.findall(r"^```(\w+)$", path.read_text("utf-8"), re.MULTILINE)
        if kind not in known
    }
    assert found == {*RUN_ELSEWHERE, *RUN_HERE}
    for page, file in {(page, file) for (page, _), file in RUN_ELSEWHERE.items()}:
        assert page in (ROOT / file).read_text("utf-8")


def asked(page: str) -> list[tuple[str, str]]:
    """Each command of curl in a page, and what it is said to print; often nothing is."""
    text = "\n".join([*blocks(page, "console"), *blocks(page, "sh")])
    found = re.findall(
        r"^(?:\$ )?(curl (?:.*'\{\n(?: .*\n)+|.*\n))((?:\{.*\n)?)", text, re.MULTILINE
    )
    return [(command.strip(), told.strip()) for command, told in found]


CURLS = [
    pytest.param(command, told, id=f"{page}-{number}")
    for page in ("README.md", "protocols.md")
    for number, (command, told) in enumerate(asked(page))
]
FORGETS = re.compile(r'("(?:id|prediction_ids|since)":)"[^"]*"|\d+\.\d+(?:e-\d+)?|("samples":)\d+')
"""What is another in each answer, or on each machine."""


def shape(text: str) -> str:
    return FORGETS.sub(r"\1#\2", text)


@pytest.mark.parametrize(("command", "told"), CURLS)
def test_a_call_is_answered_as_it_is_said_to_be(
    digits_server: Server, command: str, told: str
) -> None:
    known = digits_server.predict((ROOT / "examples/digits/7.png").read_bytes())["id"]
    command = re.sub(r"(?<=8000/attention/)[\w.-]+", known, command)
    command = command.replace("localhost:8000", digits_server.url.removeprefix("http://"))
    command = command.replace(" -o gates.png", " -o /dev/null").replace("curl -s", "curl -sS", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "/dev/null" in command:
        return
    if "| cut" in command:  # the number that is cut is not compared
        both = [shape(text).rpartition("#")[0] for text in (done.stdout.strip(), told)]
        length = min(map(len, both))
        assert length > 100
        assert both[0][:length] == both[1][:length]
    elif told:
        assert shape(done.stdout.strip()) == shape(told)
        assert likely(done.stdout) == pytest.approx(likely(told), abs=1e-3)
    else:
        assert json.loads(done.stdout)["predictions"][0]["label"] == "7"


ANSWERS = [
    pytest.param(told, id=page)
    for page in DOCUMENTS
    for _, told in asked(page)
    if told.startswith('{"id"') and told.endswith("}}")
]


@pytest.mark.parametrize("told", ANSWERS)
def test_a_documented_answer_has_what_answers_have(digits_server: Server, told: str) -> None:
    """Also of a model that is not here."""
    shown = json.loads(told)
    real = digits_server.predict((ROOT / "examples/digits/7.png").read_bytes())
    assert shown.keys() == real.keys()
    assert shown["timing_ms"].keys() == real["timing_ms"].keys()
    assert shown["predictions"][0].keys() == real["predictions"][0].keys()


def likely(answer: str) -> list[float]:
    """The probabilities in an answer."""
    return [float(p) for p in re.findall(r'"probability":([\d.e-]+)', answer)]


CLIENTS = [code for code in blocks("protocols.md", "python") if "localhost:8000" in code]


@pytest.mark.parametrize("code", CLIENTS)
def test_the_protocols_clients_work_as_they_are_written(
    digits_server: Server, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """And come to what is said behind their last line."""
    if "kserve" in code:
        pytest.importorskip("kserve", reason="needs an environment of its own: make kserve")
    monkeypatch.chdir(ROOT)
    code = code.replace("localhost:8000", digits_server.url.removeprefix("http://"))
    names: dict[str, Any] = {}
    before, _, last = code.rstrip().rpartition("\n")
    if last.startswith(" "):  # in a block
        exec(code, names)  # noqa: S102  # our own
        return
    exec(before, names)  # noqa: S102  # our own
    expression, _, said = last.partition("  # ")
    found = np.asarray(eval(expression, names))  # noqa: S307  # our own
    if said.startswith("("):
        assert f"{found.shape} {found.dtype}" == said
    else:
        assert found.tolist() == ast.literal_eval(said)


@pytest.mark.parametrize("text", blocks("training.md", "toml"))
def test_a_recipe_is_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "flowers.toml"
    file.write_text(text, encoding="utf-8")
    recipe = find_recipe(str(file))
    wanted = tomllib.loads(text)
    assert (recipe.name, recipe.batch_size) == (wanted["name"], wanted["batch_size"])


@pytest.mark.parametrize("text", blocks("versions.md", "json"))
def test_what_is_wanted_is_read(text: str) -> None:
    assert json.loads(Desired.model_validate_json(text).model_dump_json(exclude_unset=True))


@pytest.mark.parametrize("text", blocks("operations.md", "yaml"))
def test_prometheus_is_told_where_to_look(text: str) -> None:
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "gsop"
