"""Public reports of images, checkpoints, folders and proxies that others stumbled over, tried here.

Each case is called by the repository and the number of its report; docs/reliability.md lists them,
and those of ``tests/api/http/test_reported.py``.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsop.commands.models.foreign import read_weights
from gsop.errors import ConfigError, InvalidImage, StoreError
from gsop.images import decode_whole
from gsop.model.config import GSoPResNetConfig
from gsop.model.official import to_official
from gsop.model.pretrained import from_torchvision
from gsop.model.resnet import GSoPResNet
from gsop.settings import Settings
from gsop.train.data.dataset import BrokenImage
from tests.imagery import cmyk_jpeg, encode, exif, heic, picture, stored
from tests.train.data.test_folder import add, opened

SCENE = picture(48, 64)
GREY = SCENE[..., 0]
ALPHA = np.repeat(np.arange(64, dtype=np.uint8)[None] * 4, 48, axis=0)
NO_LIMIT = 10_000_000

# ── images ───────────────────────────────────────────────────────────────────────────────────────


def only_mif1() -> bytes:
    """A HEIC that does not say which codec it wants."""
    data = heic("turned-1")
    end = int.from_bytes(data[:4])
    return data[:8] + b"mif1" + data[12:16] + b"mif1" * ((end - 16) // 4) + data[end:]


IMAGES: dict[str, tuple[bytes, object, float]] = {
    "ollama/ollama#18418": (encode(stored(SCENE, 3), "JPEG", exif=exif(3), quality=98), SCENE, 12),
    "mistralai/mistral-common#330": (
        encode(stored(SCENE, 6), "JPEG", exif=exif(6), quality=98),
        SCENE,
        12,
    ),
    "strukturag/libheif#199": (only_mif1(), picture(61, 83), 12),
    "NousResearch/hermes-agent#64548": (
        encode(np.dstack([SCENE, ALPHA]), "PNG"),
        255 - (255 - SCENE.astype(float)) * (ALPHA / 255)[..., None],
        1,
    ),
    "divamgupta/image-segmentation-keras#325": (
        encode(GREY, "PNG"),
        np.repeat(GREY[..., None], 3, axis=-1),
        0,
    ),
    "cytsai/ilsvrc-cmyk-image-list#1": (cmyk_jpeg(SCENE, adobe=True), SCENE, 8),
}


@pytest.mark.parametrize("report", IMAGES)
def test_an_image_is_seen_as_people_see_it(report: str) -> None:
    data, picture, tolerance = IMAGES[report]
    expected = np.asarray(picture)
    seen = decode_whole(data, max_pixels=NO_LIMIT).astype(int)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= tolerance


def test_pytorch_vision_138() -> None:
    """Of a file that was cut off nothing is guessed."""
    with pytest.raises(InvalidImage, match="damaged, incomplete or of a rare kind; send the whole"):
        decode_whole(encode(SCENE, "JPEG")[:-54], max_pixels=NO_LIMIT)


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────

PLAIN = GSoPResNetConfig(
    depth=50, stem="imagenet", base_width=8, num_classes=10, attention="none", last_stride=2
)


@pytest.fixture(scope="module")
def network() -> GSoPResNet:
    return GSoPResNet(PLAIN)


@pytest.fixture(scope="module")
def resnet(network: GSoPResNet) -> dict[str, Tensor]:
    """A ResNet-50 by torchvision's names."""
    return to_official(network)


def mmpretrain(resnet: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"head.{key}" if key.startswith("fc.") else f"backbone.{key}": tensor
        for key, tensor in resnet.items()
    }


def mmdetection(resnet: dict[str, Tensor]) -> dict[str, Tensor]:
    others = ("neck.fpn_convs.0.conv.weight", "bbox_head.fc_cls.weight", "rpn_head.rpn_cls.bias")
    backbone = {f"backbone.{k}": t for k, t in resnet.items() if not k.startswith("fc.")}
    return backbone | {key: torch.ones(2) for key in others}


def averaged_by_mmcv(resnet: dict[str, Tensor]) -> dict[str, Tensor]:
    flat = {f"ema_{key.replace('.', '_')}": torch.zeros_like(t) for key, t in resnet.items()}
    return resnet | flat


WRAPPED: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "justchenhao/SILI_CD#2": lambda resnet: {
        f"_orig_mod.backbone.backbone.{key}": tensor for key, tensor in resnet.items()
    },
    "open-mmlab/mmpretrain#18": mmpretrain,
    "open-mmlab/mmdetection#574": mmdetection,
    "HumaticsLAB/SEAM-Match-RCNN#3": lambda resnet: {
        f"module.backbone.body.{key}": tensor for key, tensor in resnet.items()
    },
    "zkyseu/O2SFormer#23": averaged_by_mmcv,
}


@pytest.mark.parametrize("report", WRAPPED)
def test_a_backbone_is_found_in_its_wrappers(
    network: GSoPResNet, resnet: dict[str, Tensor], report: str
) -> None:
    found = from_torchvision(WRAPPED[report](resnet), PLAIN).state_dict()
    for key, tensor in network.state_dict().items():
        if not key.startswith("head."):
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


def test_nerfstudio_project_nerfstudio_3702(tmp_path: Path) -> None:
    """Numbers of numpy beside the weights are no reason to refuse these."""
    state = {"conv1.weight": torch.ones(2)}
    file = tmp_path / "best.pth"
    torch.save({"state_dict": state, "epoch": np.int64(7), "best_prec1": np.float32(77.5)}, file)
    weights = read_weights(file)
    assert weights.state_dict.keys() == state.keys()
    assert weights.facts == {"epoch": 7, "best_prec1": 77.5}
    for other in (np.ones(2), np.datetime64("2026-01-01"), Zeros()):
        torch.save({"state_dict": state, "other": other}, file)
        with pytest.raises(StoreError, match=r"save .*torch.save\(model.state_dict\(\), file\)"):
            read_weights(file)


class Zeros:
    """Unpickled by numpy's own means, a few bytes of a file become a megabyte."""

    def __reduce__(self) -> tuple[object, tuple[np.dtype[np.void]]]:
        return np.float64().__reduce__()[0], (np.dtype("V1000000"),)


# ── folders ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label in ("cat", "ant"):
        add(tmp_path, *(f"{label}/{index}.png" for index in range(6)))
    return tmp_path


def test_pytorch_vision_446(root: Path) -> None:
    """Endings in capitals, and of HEIC."""
    add(root, "ant/6.PNG", "ant/7.JPEG", "ant/8.JPG")
    (root / "ant" / "9.HEIC").write_bytes(heic("square"))
    data = opened(root)
    assert len(data) + len(data.held_out()) == 16


def test_pytorch_vision_4925(root: Path) -> None:
    """A class without images is no class; which folder it is, is said."""
    (root / "dog").mkdir()
    with pytest.raises(ConfigError, match="dog holds no images"):
        opened(root)


def test_pytorch_examples_412(root: Path) -> None:
    """One level too deep: the images themselves in place of a folder for each class."""
    with pytest.raises(ConfigError, match="holds 0 folders: it takes one for each class"):
        opened(root / "cat")


def test_lucidrains_stylegan2_pytorch_7(root: Path) -> None:
    """The file that is cut off is named, for the loader to take another one in its place."""
    data = opened(root)
    name, _ = data._train[0]
    file = root / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BrokenImage, match=re.escape(name)):
        data.training_image(0, 0)
    assert data.training_image(1, 0)


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────


def test_avibe_bot_avibe_1815() -> None:
    """By default cloudflared keeps them for 90 s; tests/test_settings.py has other proxies."""
    assert Settings.load().keep_alive_seconds > 90
