"""The kernels through Triton's compiler, to the end, for GPUs that are not here.

Its interpreter, by which each kernel is compared with its twin, takes what the compiler refuses.
"""

from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gsop.backends import kernels

OLDEST, NEWEST = 75, 120
"""Compute capabilities that torch's wheels are built for."""

WARP = 32


def gated_sum(number: str) -> tuple[Any, dict[str, str], int]:
    """The kernel, its arguments' types, and what it computes at once."""
    pointers = {"b": f"*{number}", "gate": "*fp32", "shortcut": f"*{number}", "out": f"*{number}"}
    counts = dict.fromkeys(("count", "plane", "channels"), "i32")
    return kernels._gated_sum, pointers | counts | {"block": "constexpr"}, kernels.BLOCK


def fit_bundles() -> tuple[Any, dict[str, str], int]:
    pointers = {"bundles": "*u8", "headers": "*i32", "out": "*u8"}
    counts = dict.fromkeys(("size", "height", "width"), "i32")
    return kernels._fit_bundles, pointers | counts | {"block": "constexpr"}, kernels.PIXELS


@pytest.mark.parametrize(
    ("kernel", "capability"),
    [
        (gated_sum("fp16"), OLDEST),
        (gated_sum("bf16"), NEWEST),
        (gated_sum("fp32"), NEWEST),
        (fit_bundles(), OLDEST),
        (fit_bundles(), NEWEST),
    ],
)
def test_a_kernel_compiles(
    kernel: tuple[Any, dict[str, str], int],
    capability: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function, types, block = kernel
    source = ASTSource(fn=function, signature=types, constexprs={(len(types) - 1,): block})
    made = triton.compile(source, target=GPUTarget("cuda", capability, WARP))
    assert made.asm["cubin"], "code of that GPU's own"
