"""How far each way to compute on CUDA is off the plain one: the figures of docs/performance.md.

    python -m tests.emulated_cuda.agreement

Of small networks of four kinds with random weights, on an emulated GPU: of the CPU the plain way in
float32; of that each other way, and bfloat16.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.summary import markdown
from gsop.backends.base import Place
from gsop.backends.torch_device import TorchBackend
from gsop.store.manifest import read_manifest
from tests.backends.test_cuda_options import IMAGES, NETWORKS, WAYS, Answers, answers
from tests.stores import publish_tiny


def of_the_cpu(folder: Path) -> Answers:
    """To the same images."""
    cpu = TorchBackend.open(folder, read_manifest(folder), Place("cpu", "float32", len(IMAGES), 1))
    return cpu.result(cpu.submit(IMAGES)).copy()


def off(found: Answers, expected: Answers) -> str:
    """By how much at most."""
    return f"{np.abs(found - expected).max():.1e}"


def main() -> int:
    """Print the table; the exit status."""
    columns: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as store:
        for name, config in NETWORKS.items():
            folder = publish_tiny(Path(store), name=name, config=config)
            plain = answers(folder, "", warm=False)
            columns[name] = [
                off(plain, of_the_cpu(folder)),
                *(off(answers(folder, way, warm=way == "sizes=fine"), plain) for way in WAYS),
                off(answers(folder, "", "bfloat16", warm=False), plain),
            ]
    names = ("the plain way, off the CPU", *WAYS, "bfloat16")
    print(markdown(("", *columns), list(zip(names, *columns.values(), strict=True))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
