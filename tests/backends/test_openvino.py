"""OpenVINO answers as torch does: probabilities, and every kind of gate."""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import gsop
from gsop.backends import openvino
from gsop.backends.answering import Answering
from gsop.backends.base import Backend, Place
from gsop.backends.cache import Cache
from gsop.backends.openvino import OpenVINOBackend
from gsop.backends.registry import find_backend
from gsop.backends.torch_device import TorchBackend
from gsop.commands.local import open_backend
from gsop.errors import ConfigError
from gsop.model.config import GSoPResNetConfig
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import read_manifest
from gsop.store.store import load
from tests.stores import publish_tiny
from tests.support import ROOT, TINY

IMAGES = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
CONFIGS = {
    "article": replace(TINY, flavour="article"),
    "both gates, isqrt": replace(TINY, attention="fusion_concat", head="isqrt", head_dim=8),
    "se": replace(TINY, attention="se"),
}


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_answers_as_torch_does(tmp_path: Path, config: GSoPResNetConfig) -> None:
    folder = publish_tiny(tmp_path, config=config)
    manifest, model = load(folder)
    exact = Answering(manifest, model.double(), torch.float64)(torch.tensor(np.stack(IMAGES)))
    errors = {}
    kinds: tuple[type[Backend[Any]], ...] = (TorchBackend, OpenVINOBackend)
    for kind in kinds:
        made = kind.open(folder, manifest, Place(device="cpu", max_batch=8, threads=1))
        made.warm_up()
        # Several sizes: the batch is not one that it was traced with.
        answers = [made.result(made.submit(IMAGES[:n])).copy() for n in (1, 5, 3)]
        errors[kind] = max(
            float(np.abs(answer - exact[: len(answer)].numpy()).max()) for answer in answers
        )
        assert np.ptp(answers[1], axis=0).max() > 1e-2, "the network does not look at its images"
    # How much of a network's answer float32 keeps depends on the network: up to 1.4e-5 is lost.
    assert errors[TorchBackend] < 1e-4
    assert errors[OpenVINOBackend] < 3 * errors[TorchBackend] + 1e-6


def start(folder: Path, cache: Path | None) -> npt.NDArray[np.float32]:
    """The answers of a backend that is opened as an engine opens it."""
    place = Place(device="cpu", max_batch=8, threads=1, cache=cache)
    made = OpenVINOBackend.open(folder, read_manifest(folder), place)
    return made.result(made.submit(IMAGES)).copy()


class Translations:
    """Counts translations, of one network only: after the first each gives the same again."""

    _first: Any = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = openvino.translate
        monkeypatch.setattr(openvino, "translate", self)

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        if Translations._first is None:
            Translations._first = self._real(*arguments)
        return Translations._first.clone()


@pytest.fixture
def translations(monkeypatch: pytest.MonkeyPatch) -> Translations:
    return Translations(monkeypatch)


@pytest.mark.slow
def test_a_network_is_translated_once(
    tmp_path: Path, translations: Translations, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = publish_tiny(tmp_path / "store"), tmp_path / "cache"
    first = start(folder, cache)
    assert np.ptp(first, axis=0).max() > 1e-2
    (file,) = cache.iterdir()
    whole = file.read_bytes()

    def starts(translated: int) -> None:
        """Two starts: so many translations, and the same answers."""
        before = translations.count
        for _ in range(2):
            np.testing.assert_array_equal(start(folder, cache), first)
        assert translations.count - before == translated

    starts(0)
    # Damaged in the midst of the weights: it would answer, and wrongly.
    file.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 64]) + whole[-999:])
    starts(1)
    # Whole, and not ours.
    for foreign in (b"", b"short", bytes(1000), b"\xff" * 1000):
        Cache(cache).put(file.stem, foreign)
        starts(1)
    # Not to be written: each start translates.
    cache.chmod(0o777)
    starts(2)
    shutil.rmtree(cache)
    cache.write_text("in the way")
    starts(2)
    cache.unlink()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    starts(2)
    assert not cache.exists()


@pytest.mark.slow
def test_an_empty_setting_keeps_nothing(
    tmp_path: Path, translations: Translations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    publish_tiny(tmp_path / "store")
    for cache, files, count in (("", 0, 1), ("auto", 1, 2), ("auto", 1, 2)):
        settings = Settings.load(
            model_store=tmp_path / "store", device="cpu", backend="openvino", cache=cache
        )
        open_backend(settings, resolve(settings.model_store, "tiny"))
        assert len(list((tmp_path / "caches").rglob("*.cache"))) == files
        assert translations.count == count


def test_the_key_holds_all_that_the_result_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of one of them alone is another key; a name is not among them."""
    keys: list[str] = []

    class Remembering(Cache):
        def get(self, key: str) -> bytes | None:
            keys.append(key)
            raise InterruptedError  # the rest of a start takes seconds

    monkeypatch.setattr(openvino, "Cache", Remembering)

    def key(folder: Path) -> str:
        with pytest.raises(InterruptedError):
            start(folder, tmp_path / "cache")
        return keys[-1]

    usual = publish_tiny(tmp_path, name="usual")
    same = key(usual)
    assert key(usual) == same
    assert key(publish_tiny(tmp_path, name="renamed", version="7")) == same
    others = [
        key(publish_tiny(tmp_path, name="weights", seed=1)),
        key(publish_tiny(tmp_path, name="input", size=64)),
        key(publish_tiny(tmp_path, name="stem", config=replace(TINY, last_stride=2))),
    ]
    with monkeypatch.context() as changed:
        changed.setattr("openvino.get_version", lambda: "another")
        others.append(key(usual))
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "another")
        others.append(key(usual))
    with monkeypatch.context() as changed:
        changed.setattr(openvino, "_code_digest", lambda: "another")
        others.append(key(usual))
    assert len({same, *others}) == 1 + len(others)


def test_the_digest_of_the_code_is_of_the_networks_and_the_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "app" / "gsop", tmp_path / "gsop")
    monkeypatch.setattr(gsop, "__file__", str(tmp_path / "gsop" / "__init__.py"))

    def digest() -> str:
        return openvino._code_digest.__wrapped__()

    seen = {digest()}
    for name in (
        "model/gsop.py",
        "model/resnet.py",
        "backends/openvino.py",
        "backends/answering.py",
    ):
        with (tmp_path / "gsop" / name).open("a") as file:
            file.write("# changed")
        seen.add(digest())
    assert len(seen) == 5
    (tmp_path / "gsop" / "api" / "http" / "app.py").write_text("# serves, and translates nothing")
    assert digest() in seen


def test_a_gpu_is_refused(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    folder = tiny_store / "tiny" / "1"
    with pytest.raises(ConfigError, match=r"GSOP_DEVICE is cuda: set GSOP_DEVICE=cpu"):
        OpenVINOBackend.open(folder, read_manifest(folder), Place(device="cuda"))


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "gsop.backends.openvino")
    with pytest.raises(ConfigError, match="install the extra `openvino` of this project"):
        find_backend("openvino")
