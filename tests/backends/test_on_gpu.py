"""All that the CUDA backend has of its own at once, against the CPU: on a GPU, by its own kernels.

Without a GPU an emulated one runs it, with the kernels' twins. The bounds are those of bfloat16.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsop.backends import kernels
from gsop.backends.base import Pixels, Place
from gsop.backends.bundles import fit_bundles_twin
from gsop.backends.device_tally import MOST, DeviceTally
from gsop.backends.torch_cuda import TorchCuda
from gsop.backends.torch_device import TorchBackend
from gsop.cuda_options import CudaOptions
from gsop.gates.tally import HostTally
from gsop.images.planes import bundle_bytes, decode_bundle_into
from gsop.settings import Precision
from gsop.store.manifest import read_manifest
from tests.backends.test_cuda_options import WithTwins
from tests.images.test_planes import jpeg, needs_library, photo, png

pytestmark = pytest.mark.gpu

IS_REAL = torch.cuda.is_available()
KIND = TorchCuda if IS_REAL else WithTwins
by_its_kernel = pytest.mark.skipif(not IS_REAL, reason="kernels are compared with their twins")
MOST_IMAGES = 6
EVERYTHING = (
    "convolutions=fused,residuals=fused,covariance=products,positions=sliced,sizes=fine,"
    "search=measured,sums=device,arena=pinned"
)


def opened(folder: Path, precision: Precision, options: str = "") -> TorchCuda:
    cuda = CudaOptions.parse(options)
    made = KIND.open(
        folder, read_manifest(folder), Place("cuda", precision, MOST_IMAGES, cuda=cuda)
    )
    assert isinstance(made, TorchCuda)
    return made


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-3), ("bfloat16", 0.02)])
def test_all_ways_together_answer_as_the_cpu(
    tiny_store: Path, precision: Precision, bound: float
) -> None:
    folder = tiny_store / "tiny" / "1"
    shape = (MOST_IMAGES, 32, 32, 3)
    arena: Pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = list(arena)
    cpu = TorchBackend.open(folder, read_manifest(folder), Place("cpu", "float32", MOST_IMAGES, 1))
    right = cpu.result(cpu.submit(images)).copy()
    backend = opened(folder, precision, EVERYTHING)
    backend.reach(arena)
    assert backend._slots is not None, "CUDA refused to pin the slots"
    backend.warm_up()
    for size in (1, 6, 3, 5):
        first, second = backend.submit(images[:size]), backend.submit(images[-size:])
        np.testing.assert_allclose(backend.result(first), right[:size], atol=bound)
        np.testing.assert_allclose(backend.result(second), right[-size:], atol=bound)


def test_gates_are_summed_up_as_in_the_host_memory() -> None:
    generator, size = np.random.default_rng(1), 12
    host, device = HostTally(size), DeviceTally(7, size, torch.device("cuda", 0))
    for count in (1, 5, 3 * MOST + 1):
        gates = generator.random((count, size)).astype(np.float32)
        classes = generator.integers(0, 7, count)
        host.add(gates, classes)
        device.add(gates, classes)
    for class_id in host.classes():
        expected, found = host.of(class_id), device.of(class_id)
        assert expected is not None
        assert found is not None
        np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-12)
    np.testing.assert_allclose(device.total().sums, host.total().sums, rtol=1e-12)


@needs_library
@by_its_kernel
def test_planes_are_answered_as_their_twin_has_it(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    spec = read_manifest(folder).input
    bundles = np.zeros((3, bundle_bytes(spec)), np.uint8)
    for out, file in zip(bundles, (jpeg(photo(90, 120)), png(), jpeg(photo(67, 89))), strict=True):
        decode_bundle_into(file, out, spec, max_pixels=10**8)
    pixels = torch.zeros(3, spec.height, spec.width, 3, dtype=torch.uint8)
    fit_bundles_twin(torch.from_numpy(bundles), pixels)
    backend = opened(folder, "float32")
    backend.expect_bundles()
    backend.warm_up()
    found = backend.result(backend.submit(list(bundles))).copy()
    right = backend.result(backend.submit(list(pixels.numpy())))
    np.testing.assert_allclose(found, right, atol=0.01)  # a byte on the border of two


@by_its_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_kernel_of_a_gated_sum_is_its_twin(dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    for shape in ((2, 5, 7, 9), (3, 64, 14, 14), (64, 256, 56, 56)):
        b, shortcut = torch.randn(shape, **options), torch.randn(shape, **options)
        gate = torch.rand(shape[:2], device="cuda")
        found, expected = (
            f(b, gate, shortcut) for f in (kernels.gated_sum, kernels.gated_sum_twin)
        )
        torch.testing.assert_close(found, expected)
