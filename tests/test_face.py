"""``import gsop``: its names, what they cost, and the network that it loads."""

import ast
import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gsop
from gsop.errors import StoreError
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import WEIGHTS_FILE
from tests.stores import publish_tiny
from tests.support import ROOT, START_SECONDS


def test_the_face_is_these_names() -> None:
    names = ["GSoP", "GSoPResNet", "GSoPResNetConfig", "Model", "__version__", "load"]
    assert gsop.__all__ == names == dir(gsop)
    for name in names:
        assert getattr(gsop, name) is getattr(gsop, name)
        assert name == "__version__" or getattr(gsop, name).__doc__


def test_the_type_checker_and_python_find_a_name_in_the_same_module() -> None:
    tree = ast.parse(Path(gsop.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == gsop._MODULES


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'gsop' has no attribute 'GSOP'"):
        gsop.GSOP  # type: ignore[attr-defined]  # noqa: B018 - that is what is tried


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import gsop; dir(gsop); gsop.__version__; gsop.load", ("torch", "pydantic", "numpy")),
        ("from gsop import GSoPResNetConfig; GSoPResNetConfig()", ("torch", "pydantic")),
    ],
)
def test_a_name_costs_only_what_it_needs(code: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys; {code}; sys.exit(','.join(sys.modules.keys() & {set(heavy)}) or 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=START_SECONDS)


def test_a_stored_network_is_loaded(tmp_path: Path) -> None:
    publish_tiny(tmp_path, version="1", seed=1)
    publish_tiny(tmp_path, version="2", seed=2)
    newest, second, first = (
        gsop.load(reference, store=tmp_path) for reference in ("tiny", "tiny/2", "tiny/1")
    )
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        logits = [network(images).logits for network in (newest, second, first)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])
    assert isinstance(newest, GSoPResNet)
    assert not newest.training


def test_the_store_is_that_of_the_settings(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSOP_MODEL_STORE", str(tiny_store))
    assert gsop.load("tiny").config.num_classes == 10


@pytest.mark.parametrize(
    ("reference", "remedy"),
    [("nobody", "it holds tiny/1"), ("../tiny", "write NAME or NAME/VERSION")],
)
def test_what_is_not_stored_is_refused(tiny_store: Path, reference: str, remedy: str) -> None:
    with pytest.raises(StoreError, match=remedy):
        gsop.load(reference, store=str(tiny_store))


def test_changed_weights_are_refused(tiny_store: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_store, tmp_path / "store")
    with (tmp_path / "store" / "tiny" / "1" / WEIGHTS_FILE).open("ab") as file:
        file.write(b" ")
    with pytest.raises(StoreError, match="copy or publish the version again"):
        gsop.load("tiny", store=tmp_path / "store")


@pytest.mark.parametrize("page", ["README.md", "docs/notebook.md"])
def test_the_notebook_came_out_so(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / page).read_text(encoding="utf-8")
    cells = re.findall(r"^```pycon\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert cells
    example = doctest.DocTestParser().get_doctest("\n".join(cells), {}, page, None, None)
    rules = doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=rules).run(example) == (0, len(example.examples))
