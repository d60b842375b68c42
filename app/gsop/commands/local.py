"""Inference in this process, without a server: the same decoding, preprocessing and network."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from gsop.backends.base import Backend, Place
from gsop.backends.gpus import see_only
from gsop.backends.registry import find_backend
from gsop.cpus import cpu_count
from gsop.errors import GSoPError, InvalidImage
from gsop.images import Pixels, decode
from gsop.settings import Settings
from gsop.store.manifest import Manifest

T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What became of one image.

    Attributes:
        source: what the image was read from.
        values: the answer, as the manifest's layout has it; ``None`` if it failed.
        error: why it failed.
    """

    source: T
    values: npt.NDArray[np.float32] | None
    error: GSoPError | None


def open_backend(settings: Settings, manifest: Manifest) -> Backend[Any]:
    """A stored version on the first device of the settings.

    Raises:
        SetupError: if the version, the device or the precision is not to be had.
    """
    name = settings.devices[0]
    place = Place.of(settings, name, see_only(name, os.environ))
    if not place.threads:
        place = replace(place, threads=cpu_count())  # there are no fronts that need processors
    folder = settings.model_store / manifest.name / manifest.version
    return find_backend(settings.backend).open(folder, manifest, place)


def answer_all(
    backend: Backend[Any],
    sources: Sequence[T],
    read: Callable[[T], bytes],
    *,
    max_pixels: int,
) -> Iterator[Answered[T]]:
    """Answers in the order of ``sources``; the next batch is decoded while one is computed.

    Args:
        backend: computes.
        sources: of images.
        read: the encoded image of a source; runs in threads, and may raise OSError.
        max_pixels: the largest image that is decoded.
    """
    spec = backend.manifest.input

    def decoded(source: T) -> Pixels | GSoPError:
        try:
            return decode(read(source), spec, max_pixels=max_pixels)
        except OSError as error:
            return InvalidImage(f"the file cannot be read: {error.strerror}")
        except GSoPError as error:
            return error

    size = backend.max_batch
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
            yield from _answer_batch(backend, batch, images)


def _answer_batch(
    backend: Backend[Any], sources: Sequence[T], images: Sequence[Pixels | GSoPError]
) -> Iterator[Answered[T]]:
    good = [image for image in images if isinstance(image, np.ndarray)]
    values = iter(backend.result(backend.submit(good)).copy() if good else ())
    for source, image in zip(sources, images, strict=True):
        if isinstance(image, GSoPError):
            yield Answered(source, None, image)
        else:
            yield Answered(source, next(values), None)
