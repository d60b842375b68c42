"""What DCT-scaled decoding of large JPEGs saves, and what it does to predictions.

    python -m benchmarks.scaling --name scaling

Against decoding every pixel: the CPU time of a 12-megapixel photograph; the shipped model's answers
to the held-out digits, enlarged; and the logits of a ResNet-50 of random weights on photographs
that scikit-learn bundles and, where it is installed, scikit-image. For scale, the logits are also
compared with those after Pillow's antialiased resizing, the way of most training pipelines.
"""

import argparse
import importlib.util
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image

from benchmarks import bodies, models
from benchmarks.serve import save
from benchmarks.summary import markdown
from gsop.images import InputSpec, Pixels, centred, decode, decode_whole
from gsop.model.config import GSoPResNetConfig
from gsop.model.resnet import GSoPResNet
from gsop.store.store import load
from gsop.train.data.digits import Digits
from gsop.train.data.drawing import DrawingSpec
from gsop.train.evaluate import normalise

PIXELS = 10**9
ENLARGED = 512
"""Side of the enlarged digits: 16 times what the network sees."""

SPECS = {
    "224": models.INPUT,
    "64": models.INPUT.model_copy(update={"height": 64, "width": 64, "resize": 73}),
}
"""Inputs: of most photographs here the first needs one halving, the second two or three."""


def scaled(data: bytes, spec: InputSpec) -> Pixels:
    """As served: the decoder leaves out what would be averaged away."""
    return decode(data, spec, max_pixels=PIXELS)


def full(data: bytes, spec: InputSpec) -> Pixels:
    """Every pixel decoded."""
    return centred(decode_whole(data, max_pixels=PIXELS), spec)


def by_pillow(data: bytes, spec: InputSpec) -> Pixels:
    """Decoded, resized and cut by Pillow."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    ratio = spec.resize / min(image.size)
    width, height = (round(side * ratio) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - spec.width) // 2, (height - spec.height) // 2
    return np.asarray(image.crop((left, top, left + spec.width, top + spec.height)))


def cpu_ms(work: Callable[[], object], rounds: int = 9) -> float:
    """Median CPU milliseconds of a call."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times)


def photographs() -> dict[str, Pixels]:
    """By name, (H, W, 3) R, G, B."""
    from sklearn.datasets import load_sample_images

    sample = load_sample_images()
    found = {Path(n).stem: i for n, i in zip(sample.filenames, sample.images, strict=True)}
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        raise ImportError(
            "six of the eight photographs come with scikit-image, which is not installed: "
            "pip install -c constraints.txt '.[benchmarks]'"
        )
    for folder in spec.submodule_search_locations or []:
        for name in ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket"):
            for path in Path(folder, "data").glob(f"{name}.*"):
                found[name] = np.asarray(Image.open(path).convert("RGB"))
    return found


def logits(network: GSoPResNet, spec: InputSpec, images: list[Pixels]) -> torch.Tensor:
    """(N, classes)."""
    with torch.inference_mode():
        found: torch.Tensor = network(normalise(torch.from_numpy(np.stack(images)), spec)).logits
    return found


def deviations(spec: InputSpec, files: list[bytes]) -> dict[str, float]:
    """Largest difference of any logit, relative to the logits' deviation over the photographs."""
    torch.manual_seed(0)
    network = GSoPResNet(GSoPResNetConfig(depth=50)).eval()
    expected = logits(network, spec, [full(data, spec) for data in files])
    scale = expected.std(dim=0).mean()
    answers = {
        name: logits(network, spec, [read(data, spec) for data in files])
        for name, read in (("scaled", scaled), ("Pillow", by_pillow))
    }
    return {name: float((found - expected).abs().max() / scale) for name, found in answers.items()}


def digits() -> dict[str, float]:
    """The shipped model on the enlarged digits, decoded in both ways."""
    manifest, network = load(models.DIGITS / "1")
    how = DrawingSpec()
    samples = Digits(32, how).held_out()
    right = {"scaled": 0, "full": 0}
    alike = 0
    for sample in samples:
        scan = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)
        assert scan is not None
        large = cv2.resize(scan, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
        jpeg = bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(large), quality=90))
        spec = manifest.input
        best = logits(network.eval(), spec, [scaled(jpeg, spec), full(jpeg, spec)]).argmax(1)
        right["scaled"] += int(best[0] == sample.label)
        right["full"] += int(best[1] == sample.label)
        alike += int(best[0] == best[1])
    total = len(samples)
    return {"images": total, "same best class": alike / total} | {
        f"{name}, right": count / total for name, count in right.items()
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    large = bodies.jpeg("large")
    times = {
        name: cpu_ms(lambda read=read: read(large, models.INPUT))  # type: ignore[misc]
        for name, read in (("full", full), ("scaled", scaled), ("Pillow", by_pillow))
    }
    result: dict[str, Any] = {"12 megapixels, CPU ms": times, "digits": digits()}
    try:
        seen = photographs()
    except ImportError as missing:
        print(f"the logits are left out: {missing}", file=sys.stderr)
    else:
        files = [bytes(simplejpeg.encode_jpeg(image, quality=90)) for image in seen.values()]
        result["photographs"] = list(seen)
        for name, spec in SPECS.items():
            result[f"logits at {name}"] = deviations(spec, files)
    rows = [
        [part, name, f"{value:.4g}"]
        for part, values in result.items()
        if isinstance(values, dict)
        for name, value in values.items()
    ]
    print(markdown(("what", "", "figure"), rows))
    if chosen.name:
        print(f"saved {save(chosen.name, result)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
