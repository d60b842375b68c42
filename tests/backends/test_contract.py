"""What the engine relies on, of every backend alike.

A new backend is a row of :data:`BACKENDS`.
"""

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsop.backends.base import Backend, OutOfMemory, Pixels, Place, Values, warm_up_in_memory
from gsop.backends.null import NullBackend
from gsop.backends.registry import find_backend
from gsop.errors import SetupError
from gsop.store.manifest import MANIFEST_FILE, Manifest, read_manifest
from tests.failing_backends import FITS, LARGE, Cramped, CrampedFromTheStart, Spoilt

MOST = 8
IMAGES: list[Pixels] = list(
    np.random.default_rng(0).integers(0, 200, (MOST, 32, 32, 3), dtype=np.uint8)
)


class TwoAtOnce(NullBackend):
    """As on a GPU: results are written over when the second batch after theirs is submitted."""

    depth = 2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._memory = np.zeros((self.depth, self.max_batch, self.manifest.answer.width), "f4")
        self._turn = 0

    def submit(self, images: Sequence[Pixels]) -> int:
        self._turn = (self._turn + 1) % self.depth
        for row, image in zip(self._memory[self._turn], images, strict=False):
            row[:] = 0.1
            row[0] = image[0, 0, 0]
        return self._turn * 1000 + len(images)

    def result(self, pending: int) -> Values:
        turn, count = divmod(pending, 1000)
        return np.asarray(self._memory[turn, :count])


BACKENDS = {
    "torch": "cpu",
    "openvino": "cpu",
    "null": "cpu",
    f"{__name__}:TwoAtOnce": "cpu",
    "tests.emulated_cuda.backend:EmulatedCuda": "cuda:1",
}
"""Each with the device that it is opened on."""

WITHOUT_LOGITS = ("null", f"{__name__}:TwoAtOnce")


def opened(name: str, store: Path, *, most: int = MOST) -> Backend[Any]:
    folder = store / "tiny" / "1"
    place = Place(BACKENDS[name], "float32", max_batch=most, threads=1)
    return find_backend(name).open(folder, read_manifest(folder), place)


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tiny_store: Path) -> Backend[Any]:
    """Opened once: to translate a network takes seconds."""
    return opened(request.param, tiny_store)


def answers(backend: Backend[Any], images: Sequence[Pixels]) -> Values:
    return backend.result(backend.submit(images)).copy()


def test_an_answer_is_as_its_layout_says(backend: Backend[Any]) -> None:
    values, layout = answers(backend, IMAGES), backend.manifest.answer
    assert values.shape == (MOST, layout.width)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    if type(backend) is not TwoAtOnce:
        np.testing.assert_allclose(layout.probabilities(values).sum(axis=1), 1, atol=1e-5)
        gates = layout.gate_values(values)
        assert ((gates > 0) & (gates < 1)).all()


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in WITHOUT_LOGITS])
def test_probabilities_have_the_versions_temperature(
    name: str, tiny_store: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_store / "tiny", tmp_path / "tiny")
    path = tmp_path / "tiny" / "1" / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 2.5}))
    layout = read_manifest(path.parent).answer
    plain = layout.probabilities(answers(opened("torch", tiny_store), IMAGES))
    softer = layout.probabilities(answers(opened(name, tmp_path), IMAGES))
    powers = plain ** (1 / 2.5)
    np.testing.assert_allclose(softer, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)
    assert np.abs(softer - plain).max() > 0.01


def test_it_says_where_it_computes(backend: Backend[Any]) -> None:
    assert backend.max_batch == MOST
    assert backend.depth >= 1
    assert backend.device
    assert backend.precision


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_an_item_in_a_batch_equals_the_item_alone(backend: Backend[Any], size: int) -> None:
    together = answers(backend, IMAGES[:size])
    alone = np.concatenate([answers(backend, [image]) for image in IMAGES[:size]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_answers_come_in_the_order_of_the_images(backend: Backend[Any]) -> None:
    there, back = answers(backend, IMAGES), answers(backend, IMAGES[::-1])
    np.testing.assert_allclose(there, back[::-1], atol=1e-5)


def test_as_many_batches_may_be_unfinished_as_it_says(backend: Backend[Any]) -> None:
    parts = [IMAGES[at : at + 2] for at in range(0, 2 * backend.depth, 2)]
    expected = [answers(backend, part) for part in parts]
    pending = [backend.submit(part) for part in parts]
    for one, wanted in zip(pending, expected, strict=True):
        np.testing.assert_allclose(backend.result(one), wanted, atol=1e-5)


def test_to_wait_for_a_batch_in_another_thread_changes_nothing(backend: Backend[Any]) -> None:
    expected = answers(backend, IMAGES[:2])
    pending = backend.submit(IMAGES[:2])
    waiter = threading.Thread(target=backend.wait, args=[pending])
    waiter.start()
    waiter.join()
    np.testing.assert_allclose(backend.result(pending), expected, atol=1e-5)


def test_images_are_not_kept(backend: Backend[Any]) -> None:
    expected = answers(backend, IMAGES[:2])
    copies = [image.copy() for image in IMAGES[:2]]
    pending = backend.submit(copies)
    for copy in copies:
        copy[:] = 0  # the slots' next images
    np.testing.assert_allclose(backend.result(pending), expected, atol=1e-5)


def test_it_warms_up_and_shrinks(tiny_store: Path, backend: Backend[Any]) -> None:
    expected = answers(backend, IMAGES[:3])
    backend.warm_up()
    backend.shrink(3)
    try:
        assert backend.max_batch == 3
        backend.warm_up()
        np.testing.assert_allclose(answers(backend, IMAGES[:3]), expected, atol=1e-5)
    finally:
        backend.shrink(MOST)


def cramped(kind: type[Cramped], store: Path, most: int = MOST) -> Cramped:
    folder = store / "tiny" / "1"
    made = kind.open(folder, read_manifest(folder), Place(device="cpu", max_batch=most, threads=1))
    assert isinstance(made, Cramped)
    return made


def test_a_device_without_room_leaves_what_it_has_unharmed(tiny_store: Path) -> None:
    backend = cramped(Cramped, tiny_store)
    expected = answers(backend, IMAGES[:FITS])
    with pytest.raises(OutOfMemory) as caught:
        backend.submit(IMAGES)
    assert caught.value.__context__ is None, "a traceback would hold the batch's memory"
    np.testing.assert_array_equal(answers(backend, IMAGES[:FITS]), expected)


def test_a_warm_up_that_does_not_fit_is_halved_until_it_does(tiny_store: Path) -> None:
    backend = cramped(CrampedFromTheStart, tiny_store)
    warm_up_in_memory(backend)
    assert backend.max_batch == 2 <= FITS


class NoRoom(CrampedFromTheStart):
    """Whose device is full."""

    def submit(self, images: Sequence[Pixels]) -> Any:
        raise OutOfMemory("there is none")


def test_a_device_without_any_room_has_a_reason_that_names_the_remedy(tiny_store: Path) -> None:
    with pytest.raises(
        SetupError, match=r"memory for one image of tiny/1: end what.*\(there is none\)"
    ):
        warm_up_in_memory(cramped(NoRoom, tiny_store))


def test_a_failing_warm_up_keeps_its_reason(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    spoilt = Spoilt.open(folder, read_manifest(folder), Place(device="cpu", threads=1))
    with pytest.raises(RuntimeError, match="all CUDA-capable devices are busy"):
        warm_up_in_memory(spoilt)


def test_a_version_that_was_replaced_is_not_opened(tiny_store: Path) -> None:
    folder = tiny_store / "tiny" / "1"
    manifest: Manifest = read_manifest(folder).model_copy(update={"sha256": "0" * 64})
    for name in ("torch", "openvino"):
        with pytest.raises(SetupError, match="was replaced since the service started"):
            find_backend(name).open(folder, manifest, Place(device="cpu", threads=1))


def test_marks_of_the_doubles_are_none_of_the_images() -> None:
    assert max(int(image[0, 0, 0]) for image in IMAGES) < min(250, LARGE)
