import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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

    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert blocks
    assert ran.returncode == 0, ran.stderr
    assert "torch.Size([2, 1000])" in ran.stdout
    assert "'layer3.5.channel': (2, 1024)" in ran.stdout
