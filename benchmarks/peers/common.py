"""What all peers share: the decoder, the network and the answer are those of this project.

So a comparison is of the servers alone. ``Work`` is made once in each process that computes.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.images import decode
from gsop.store.manifest import Manifest, read_manifest

MAX_PIXELS = 50_000_000
MAX_BATCH = 16
"""As this service's default on the CPU."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """What every peer's script is given."""

    model: str
    store: Path
    port: int
    threads: int


def parser() -> argparse.ArgumentParser:
    """The options of every peer; a script adds its own."""
    made = argparse.ArgumentParser()
    made.add_argument("--model", required=True)
    made.add_argument("--store", required=True, type=Path)
    made.add_argument("--port", required=True, type=int)
    # As this service on two cores: one for the network, the other for HTTP and decoding.
    made.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    return made


def options(given: argparse.Namespace) -> Options:
    """The common part of a command line."""
    return Options(given.model, given.store, given.port, given.threads)


class Work:
    """Decoding and computing. torch is imported only where a network runs."""

    def __init__(self, chosen: Options, *, computes: bool = True) -> None:
        folder = chosen.store / chosen.model / "1"
        self.manifest: Manifest = read_manifest(folder)
        self._predictor: Any = None
        if computes and chosen.model != "null":
            import torch

            from gsop.backends.base import Predictor
            from gsop.store.store import load

            torch.set_num_threads(chosen.threads)
            manifest, model = load(folder)
            self._predictor = Predictor(
                manifest,
                model,
                device=torch.device("cpu"),
                dtype=torch.float32,
                max_batch=MAX_BATCH,
            )
            self._predictor.warm_up()
        classes = self.manifest.config.num_classes
        self._nothing = np.linspace(0, 2 / classes, classes, dtype=np.float32)

    def decode(self, data: bytes) -> Pixels:
        """The network's input, ``(H, W, 3)``."""
        return decode(data, self.manifest.input, max_pixels=MAX_PIXELS)

    def probabilities(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """``(N, classes)`` of at most ``MAX_BATCH`` images; not in two threads at once."""
        if self._predictor is None:
            return np.broadcast_to(self._nothing, (len(images), len(self._nothing)))
        values = self._predictor.submit(images).result()
        return np.array(values[:, : len(self._nothing)])

    def answer(self, probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
        """The five likeliest classes of one image, as this service answers."""
        best = np.argpartition(probabilities, -5)[-5:]
        best = best[np.argsort(-probabilities[best])]
        return {
            "predictions": [
                {
                    "class_id": int(i),
                    "label": self.manifest.labels[i],
                    "probability": float(probabilities[i]),
                }
                for i in best
            ]
        }

    def answers(self, images: Sequence[Pixels]) -> list[dict[str, Any]]:
        """Of each image."""
        return [self.answer(row) for row in self.probabilities(images)]


def to_json(answer: dict[str, Any]) -> bytes:
    """By orjson where there is one, as there is in the project's own environment."""
    try:
        import orjson
    except ImportError:
        return json.dumps(answer).encode()
    return orjson.dumps(answer)
