"""Inference in this process, without a server: the same decoding, preprocessing and network."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from gsop.backends.base import DEFAULT_MAX_BATCH, Predictor, find_backend, find_device, find_dtype
from gsop.errors import GSoPError, InvalidImage
from gsop.images import Pixels, decode
from gsop.settings import Settings, cpu_count
from gsop.store.manifest import Manifest
from gsop.store.store import load

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What became of one image.

    Attributes:
        source: what the image was read from.
        values: ``(classes + G,)``: probabilities, then gates; ``None`` if it failed.
        error: why it failed.
    """

    source: T
    values: npt.NDArray[np.float32] | None
    error: GSoPError | None


def load_predictor(settings: Settings, manifest: Manifest) -> Predictor:
    """A stored version on the first device of the settings.

    Raises:
        SetupError: if the version, the device or the precision is not to be had.
    """
    device = find_device(settings.devices[0])
    torch.set_num_threads(settings.torch_threads or cpu_count())
    _, network = load(settings.model_store / manifest.name / manifest.version)
    return find_backend(settings.backend)(
        manifest,
        network,
        device=device,
        dtype=find_dtype(settings.precision, device),
        max_batch=settings.max_batch or DEFAULT_MAX_BATCH[device.type],
        cache=settings.cache_folder,
    )


def answer_all(
    predictor: Predictor,
    sources: Sequence[T],
    read: Callable[[T], bytes],
    *,
    max_pixels: int,
) -> Iterator[Answer[T]]:
    """Answers in the order of ``sources``; the next batch is decoded while one is computed.

    Args:
        predictor: computes.
        sources: of images.
        read: the encoded image of a source; runs in threads, and may raise OSError.
        max_pixels: the largest image that is decoded.
    """
    spec = predictor.manifest.input

    def decoded(source: T) -> Pixels | GSoPError:
        try:
            return decode(read(source), spec, max_pixels=max_pixels)
        except OSError as error:
            return InvalidImage(f"the file cannot be read: {error.strerror}")
        except GSoPError as error:
            return error

    size = predictor.max_batch
    batches = [sources[at : at + size] for at in range(0, len(sources), size)]
    if not batches:
        return
    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead = [pool.submit(decoded, source) for source in batches[0]]
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            images, ahead = (
                [future.result() for future in ahead],
                [pool.submit(decoded, source) for source in following],
            )
            yield from _answer_batch(predictor, batch, images)


def _answer_batch(
    predictor: Predictor, sources: Sequence[T], images: Sequence[Pixels | GSoPError]
) -> Iterator[Answer[T]]:
    good = [image for image in images if isinstance(image, np.ndarray)]
    values = iter(predictor.submit(good).result().copy() if good else ())
    for source, image in zip(sources, images, strict=True):
        if isinstance(image, GSoPError):
            yield Answer(source, None, image)
        else:
            yield Answer(source, next(values), None)
