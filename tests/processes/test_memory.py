import subprocess
import sys

import pytest

from tests.support import ROOT

CODE = """
import resource, sys, torch
from gsop.processes.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    for _ in range(4):
        torch.ones(12_000_000)  # 48 MB, given back at once
batch()
before = faults()
for _ in range(5): batch()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    faults = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", CODE, way],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for way in ("keep", "give back")
    }
    assert faults["keep"] < faults["give back"] / 3
