"""Tests marked ``gpu``: on a GPU where there is one, and else on an emulated one."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """What they are written for runs here too: on a GPU they have nothing to show but figures."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    import torch  # which quick tests beside them do without

    from tests.emulated_cuda import Machine, emulated

    if torch.cuda.is_available():
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    kept = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    with emulated(Machine(devices=1)):
        yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = kept
