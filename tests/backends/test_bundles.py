"""Pixels that a device makes of planes, beside those that decoders make."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import bodies
from gsop.backends.base import Place
from gsop.backends.bundles import fit_bundles_twin
from gsop.backends.null import NullBackend
from gsop.backends.torch_device import TorchBackend
from gsop.errors import ConfigError
from gsop.images import InputSpec, Pixels, decode
from gsop.images.planes import PLANES, bundle_bytes, decode_bundle_into
from gsop.store.manifest import read_manifest
from tests.backends.test_cuda_options import WithTwins, interpreted
from tests.emulated_cuda import Machine, emulated
from tests.images.test_planes import jpeg, needs_library, photo, png

pytestmark = needs_library

SPEC = InputSpec(height=64, width=48, resize=72, mean=(0.5,) * 3, std=(0.5,) * 3)
IMAGENET = InputSpec(height=224, width=224, resize=256, mean=(0.5,) * 3, std=(0.5,) * 3)


def bundle(data: bytes, spec: InputSpec) -> Pixels:
    out = np.zeros(bundle_bytes(spec), np.uint8)
    decode_bundle_into(data, out, spec, max_pixels=10**8)
    return out


def fitted(files: list[bytes], spec: InputSpec) -> Pixels:
    """What the device makes of files."""
    bundles = torch.from_numpy(np.stack([bundle(data, spec) for data in files]))
    out = torch.zeros(len(files), spec.height, spec.width, 3, dtype=torch.uint8)
    fit_bundles_twin(bundles, out)
    return out.numpy()


def check_near(found: Pixels, expected: Pixels, *, at_edges: int = 12) -> None:
    """Chroma of a halved JPEG has a quarter of the samples that a decoder would take."""
    off = np.abs(found.astype(int) - expected)
    assert off.mean() < 1.5
    assert np.percentile(off, 99) <= at_edges


@pytest.mark.parametrize("size", [(73, 110), (99, 75), (143, 143), (150, 200), (600, 1000)])
def test_pixels_of_planes_are_near_to_those_that_decoders_make(size: tuple[int, int]) -> None:
    data = jpeg(photo(*size))
    assert bundle(data, SPEC)[:4].view(np.int32) == PLANES
    (found,) = fitted([data], SPEC)
    # The rim of a saturated disc, which no photograph has.
    check_near(found, decode(data, SPEC, max_pixels=10**8), at_edges=24)


@pytest.mark.parametrize("size", [(500, 375), (640, 480), (1000, 750), (4000, 3000)])
def test_a_photograph_is_nearly_the_same(size: tuple[int, int]) -> None:
    data = bodies.photograph(*size)
    assert bundle(data, IMAGENET)[:4].view(np.int32) == PLANES
    (found,) = fitted([data], IMAGENET)
    check_near(found, decode(data, IMAGENET, max_pixels=10**8))


def test_without_halving_only_rounding_differs() -> None:
    data = jpeg(photo(140, 100))
    (found,) = fitted([data], SPEC)
    off = np.abs(found.astype(int) - decode(data, SPEC, max_pixels=10**8))
    assert off.mean() < 0.6
    assert off.max() <= 4


def test_pixels_and_planes_may_come_in_one_batch() -> None:
    files = [png(), jpeg(photo(140, 100)), png()]
    found = fitted(files, SPEC)
    np.testing.assert_array_equal(found[0], decode(files[0], SPEC, max_pixels=10**8))
    np.testing.assert_array_equal(found[0], found[2])
    check_near(found[1], decode(files[1], SPEC, max_pixels=10**8))


KERNEL = """
import sys, numpy as np, torch
from gsop.backends import kernels
from gsop.backends.bundles import fit_bundles_twin
bundles = torch.from_numpy(np.load(sys.argv[1]))
out = [torch.zeros(len(bundles), 64, 48, 3, dtype=torch.uint8) for _ in range(2)]
kernels.fit_bundles(bundles, out[0])
fit_bundles_twin(bundles, out[1])
off = (out[0].int() - out[1].int()).abs()
assert out[1].float().std() > 10
print("off by", int(off.max()), float(off.float().mean()))
"""


def test_the_kernel_agrees_with_its_twin(tmp_path: Path) -> None:
    files = [jpeg(photo(140, 100)), png(), jpeg(photo(577, 1000))]
    np.save(tmp_path / "bundles.npy", np.stack([bundle(data, SPEC) for data in files]))
    done = interpreted(KERNEL, str(tmp_path / "bundles.npy"))
    assert done.stdout.startswith("off by"), done.stderr
    most, mean = map(float, done.stdout.split()[2:])
    assert most <= 1  # a float that lies on the border of two bytes
    assert mean < 0.01


HOSTILE = """
import numpy as np, torch
from gsop.backends import kernels
headers = [[1, 2**30, 2**30, 2**30, 2**30, 2**30, 2**30], [1, 0, 0, 0, 0, 0, 0], [-7] * 7,
           [1, 2**31 - 1, 1, 1, 2**31 - 1, -2**31, -2**31], [1, 89, 67, 47, 36, -10**6, 10**6]]
found = []
for around in (0, 255):
    for header in headers:
        memory = torch.full((3, 16384), around, dtype=torch.uint8)
        memory[1] = torch.arange(16384) % 251
        memory[1, :28] = torch.from_numpy(np.array(header, np.int32).view(np.uint8))
        out = torch.zeros(1, 64, 48, 3, dtype=torch.uint8)
        kernels.fit_bundles(memory[1:2], out)
        found.append(out)
pairs = zip(found[: len(headers)], found[len(headers) :], strict=True)
print("alike", all(torch.equal(one, other) for one, other in pairs))
"""


def test_a_header_that_lies_reaches_nobody_elses_image() -> None:
    """It comes from a decoder, which a stranger's file may have taken over."""
    done = interpreted(HOSTILE)
    assert done.stdout.startswith("alike True"), done.stdout + done.stderr


@pytest.mark.parametrize("seed", [None, 0])
def test_a_backend_answers_by_bundles_as_by_pixels(tiny_store: Path, seed: int | None) -> None:
    folder = tiny_store / "tiny" / "1"
    manifest = read_manifest(folder)
    spec = manifest.input
    files = [jpeg(photo(40 + n, 60)) for n in range(3)] + [png()]
    pixels = fitted(files, spec)
    cpu = TorchBackend.open(folder, manifest, Place("cpu", "float32", 4, 1))
    right = cpu.result(cpu.submit(list(pixels))).copy()
    with emulated(Machine(devices=1, seed=seed)) as machine:
        backend = WithTwins.open(folder, manifest, Place("cuda", "float32", 4))
        backend.expect_bundles()
        backend.warm_up()
        machine.waits.clear()
        given = [bundle(data, spec) for data in files]
        first, second = backend.submit(given), backend.submit(list(pixels[:2]))
        for one in given:
            one[:] = 0  # they are not kept
        np.testing.assert_allclose(backend.result(first), right, atol=1e-5)
        np.testing.assert_allclose(backend.result(second), right[:2], atol=1e-5)
        assert set(machine.waits) == {"an event"}


class Noted(WithTwins):
    """Notes where its kernel was launched: for memory that is aligned otherwise it is another."""

    launched: ClassVar[set[int]] = set()

    @staticmethod
    def _fit_bundles(bundles: Tensor, out: Tensor) -> None:
        Noted.launched.add(int(out.storage_offset()))
        fit_bundles_twin(bundles, out)


@pytest.mark.parametrize("most", [1, 4])
def test_its_kernel_is_compiled_before_it_serves(tiny_store: Path, most: int) -> None:
    """By programs, which an engine may not start any more once it serves."""
    folder = tiny_store / "tiny" / "1"
    manifest = read_manifest(folder)
    given = [bundle(png(), manifest.input)]
    with emulated(Machine(devices=1)):
        backend = Noted.open(folder, manifest, Place("cuda", "float32", most))
        backend.expect_bundles()
        Noted.launched.clear()
        backend.warm_up()
        warm = set(Noted.launched)
        for _ in range(3):
            backend.result(backend.submit(given))
        assert warm == Noted.launched
        assert len(warm) == backend.depth


def test_what_takes_no_bundles_says_so(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    for kind in (NullBackend, TorchBackend):
        backend = kind.open(folder, read_manifest(folder), Place("cpu", "float32", 2, 1))
        with pytest.raises(ConfigError, match="GSOP_PIXELS=planes is for CUDA devices"):
            backend.expect_bundles()
