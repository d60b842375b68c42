"""OpenVINO answers as torch does: probabilities, and every kind of gate."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engine.openvino import OpenVINOPredictor
from app.engine.predictor import Answering, Predictor, find_backend
from app.errors import ConfigError
from app.model.config import GSoPResNetConfig
from app.store.store import load
from tests.support import TINY, publish_tiny

CPU = torch.device("cpu")
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
    for backend in (Predictor, OpenVINOPredictor):
        manifest, model = load(folder)
        made = backend(manifest, model, device=CPU, dtype=torch.float32, max_batch=8)
        made.warm_up()
        # Several sizes: the batch is not one that it was traced with.
        answers = [made.submit(IMAGES[:n]).result().copy() for n in (1, 5, 3)]
        errors[backend] = max(
            float(np.abs(answer - exact[: len(answer)].numpy()).max()) for answer in answers
        )
        assert np.ptp(answers[1], axis=0).max() > 1e-2, "the network does not look at its images"
    # How much of a network's answer float32 keeps depends on the network: up to 1.4e-5 is lost.
    assert errors[Predictor] < 1e-4
    assert errors[OpenVINOPredictor] < 3 * errors[Predictor] + 1e-6


def test_a_gpu_is_refused(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    with pytest.raises(ConfigError, match=r"GSOP_DEVICE is cuda: set GSOP_DEVICE=cpu"):
        OpenVINOPredictor(
            manifest, model, device=torch.device("cuda"), dtype=torch.bfloat16, max_batch=1
        )


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "app.engine.openvino")
    with pytest.raises(ConfigError, match="install the extra `openvino` of this project"):
        find_backend("openvino")
