"""What the documents show of Python runs, each block by itself."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsop.__main__ import main
from gsop.model.config import GSoPResNetConfig
from gsop.model.official import to_official
from gsop.model.resnet import GSoPResNet
from tests.support import ROOT


@pytest.mark.slow
def test_the_documented_code_runs(tmp_path: Path) -> None:
    checkpoint = to_official(GSoPResNet(GSoPResNetConfig(depth=18)))
    torch.save({"epoch": 1, "state_dict": checkpoint}, tmp_path / "checkpoint.pth.tar")
    backbone = to_official(GSoPResNet(GSoPResNetConfig(depth=18, gated_blocks="none")))
    torch.save(backbone, tmp_path / "resnet18.pth")

    ran = run_blocks("model.md", tmp_path)
    assert "torch.Size([2, 1000])" in ran
    assert "'layer3.5.channel': (2, 1024)" in ran


@pytest.mark.slow
def test_the_documented_looks_at_gates_run(tmp_path: Path) -> None:
    examples = str(ROOT / "examples" / "digits")
    store = ["--model-store", str(ROOT / "model_store"), "--model", "digits", "--device", "cpu"]
    out = ["--attention", f"{tmp_path / 'gates'}/"]
    assert main(["predict", examples, *store, *out, "--quiet"]) == 0
    ran = run_blocks("gates.md", tmp_path)
    assert "torch.Size([128, 10])" in ran
    assert "'7': " in ran


def run_blocks(page: str, folder: Path) -> str:
    """What the blocks of a page print in one process, each with no name of another's."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    program = "import json, sys\nfor block in json.load(sys.stdin): exec(block, {})"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(blocks),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GSOP_MODEL_STORE": str(ROOT / "model_store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
