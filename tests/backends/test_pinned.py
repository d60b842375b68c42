"""Slots that the device reads by itself, on an emulated one."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gsop.backends.base import Place
from gsop.backends.torch_cuda import TorchCuda
from gsop.backends.torch_device import TorchBackend
from gsop.cuda_options import CudaOptions
from gsop.store.manifest import read_manifest
from tests.emulated_cuda import Machine, emulated
from tests.emulated_cuda.tensors import _pinned

SLOTS, SIZE = 6, 32 * 32 * 3
Bytes = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.float32]
IMAGES = np.random.default_rng(0).integers(0, 256, (SLOTS, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def arena() -> Iterator[Bytes]:
    """Slots with room for larger images beside these, as the engine sees them."""
    memory = np.zeros((SLOTS, SIZE + 100), np.uint8)
    memory[:, :SIZE] = IMAGES.reshape(SLOTS, SIZE)
    view = memory.view()
    view.flags.writeable = False
    yield view
    _pinned.discard(memory.ctypes.data)


@pytest.fixture(scope="module")
def right(tiny_store: Path) -> Answers:
    folder = tiny_store / "tiny" / "1"
    cpu = TorchBackend.open(folder, read_manifest(folder), Place("cpu", "float32", SLOTS, 1))
    return cpu.result(cpu.submit(list(IMAGES))).copy()


def opened(store: Path, options: str = "arena=pinned") -> TorchCuda:
    folder = store / "tiny" / "1"
    place = Place("cuda", "float32", SLOTS, cuda=CudaOptions.parse(options))
    made = TorchCuda.open(folder, read_manifest(folder), place)
    assert isinstance(made, TorchCuda)
    return made


def slots(arena: Bytes, *numbers: int) -> list[Bytes]:
    return [arena[number, :SIZE].reshape(32, 32, 3) for number in numbers]


@pytest.mark.parametrize("seed", [None, 0])
def test_the_device_reads_the_slots_by_itself(
    tiny_store: Path, arena: Bytes, right: Answers, seed: int | None
) -> None:
    with emulated(Machine(devices=1, seed=seed)) as machine:
        backend = opened(tiny_store)
        backend.reach(arena)
        backend.warm_up()
        machine.waits.clear()
        backend._images.fill_(0)  # where images would be staged
        for numbers in ((3, 1), (0, 5, 2), (4,)):
            first, second = (backend.submit(slots(arena, *n)) for n in (numbers, numbers[:1]))
            np.testing.assert_allclose(backend.result(first), right[list(numbers)], atol=1e-5)
            np.testing.assert_allclose(backend.result(second), right[[numbers[0]]], atol=1e-5)
        assert set(machine.waits) == {"an event"}
        assert not backend._images.any()


def test_images_that_lie_elsewhere_are_copied_first(
    tiny_store: Path, arena: Bytes, right: Answers
) -> None:
    with emulated(Machine(devices=1)):
        backend = opened(tiny_store)
        backend.reach(arena)
        elsewhere = IMAGES[2].copy()
        pending = backend.submit([*slots(arena, 1), elsewhere])
        elsewhere[:] = 0  # it is not kept
        np.testing.assert_allclose(backend.result(pending), right[[1, 2]], atol=1e-5)


def test_two_models_share_the_slots(tiny_store: Path, arena: Bytes, right: Answers) -> None:
    with emulated(Machine(devices=1)):
        backends = [opened(tiny_store), opened(tiny_store)]
        for backend in backends:
            backend.reach(arena)
            assert backend._slots is not None
            found = backend.result(backend.submit(slots(arena, 4)))
            np.testing.assert_allclose(found, right[[4]], atol=1e-5)


def test_slots_that_cannot_be_pinned_are_copied_and_the_log_says_so(
    tiny_store: Path, arena: Bytes, right: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    with emulated(Machine(devices=1)) as machine, caplog.at_level(logging.WARNING):
        machine.registers = 801
        backend = opened(tiny_store)
        backend.reach(arena)
        found = backend.result(backend.submit(slots(arena, 4)))
        np.testing.assert_allclose(found, right[[4]], atol=1e-5)
    assert "the slots cannot be pinned (CUDA error 801)" in caplog.text


def test_nothing_is_pinned_where_nobody_asked_for_it(tiny_store: Path, arena: Bytes) -> None:
    with emulated(Machine(devices=1)):
        backend = opened(tiny_store, "")
        backend.reach(arena)
        assert backend._slots is None
