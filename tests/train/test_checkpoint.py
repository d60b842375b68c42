import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsop.errors import SetupError
from gsop.train import checkpoint
from tests.support import ROOT, START_SECONDS


def test_the_newest_is_found_and_the_oldest_go(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, {"weights": torch.full((3,), float(step))})
    step, state = checkpoint.load(tmp_path) or (0, {})
    assert step == 100
    assert torch.equal(state["weights"], torch.full((3,), 100.0))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "step-000000010.pt",
        "step-000000100.pt",
    ]


def test_a_spoilt_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2):
        newest = checkpoint.save(tmp_path, step, {"step": step})
    newest.write_bytes(newest.read_bytes()[:-40])
    assert checkpoint.load(tmp_path) == (1, {"step": 1})
    (tmp_path / "step-000000001.pt").write_bytes(b"nothing")
    with pytest.raises(SetupError, match=r"no checkpoint .* can be read .*start the run anew"):
        checkpoint.load(tmp_path)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": Path("/")}, tmp_path / "step-000000003.pt")
    with pytest.raises(SetupError, match="can be read"):
        checkpoint.load(tmp_path)


def test_a_full_disk_spoils_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from gsop.train import checkpoint\n"
        "folder = Path(sys.argv[1])\n"
        "checkpoint.save(folder, 1, {'weights': torch.zeros(10)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    checkpoint.save(folder, 2, {'weights': torch.zeros(100_000)})\n"
        "except OSError:\n"
        "    sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=START_SECONDS
    )
    assert done.returncode == 7
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000001.pt"]
    assert checkpoint.load(tmp_path) is not None
