"""``gsop models reference``: what drift and familiarity of a stored version are judged by."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from gsop.commands.evaluate import samples_of, trained_on
from gsop.commands.local import answer_all, open_backend
from gsop.errors import ConfigError
from gsop.gates.reference import LEAST_IMAGES
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest
from gsop.store.reference import write_reference
from gsop.train.data.dataset import Sample
from gsop.train.data.open import open_data
from gsop.train.data.spec import AugmentSpec
from gsop.train.reference import Answered, make_reference


def make(settings: Settings, reference: str, *, data: Path | None, progress: bool) -> int:
    """Answer held-out images as the service would, and write the version's reference.

    Args:
        settings: the store, the device, the precision.
        reference: ``name`` or ``name/version``.
        data: a folder of images, as `gsop evaluate` takes it; ``None`` takes the held-out images of
            the data that the model was trained on.
        progress: whether to draw a progress bar.

    Raises:
        SetupError: if the model or the images are not to be had.
    """
    manifest = resolve(settings.model_store, reference)
    backend = open_backend(settings, manifest)
    backend.warm_up()

    def answer(samples: Sequence[Sample]) -> Answered:
        answers = track(
            answer_all(
                backend,
                range(len(samples)),
                lambda index: samples[index].image,
                max_pixels=settings.max_image_pixels,
            ),
            "answering",
            total=len(samples),
            console=Console(stderr=True),
            disable=not progress,
        )
        read = [(a.values, a.source) for a in answers if a.values is not None]
        values = np.array([v for v, _ in read], np.float32).reshape(-1, manifest.answer.width)
        return values, np.array([source for _, source in read], np.int64)

    held_out, _ = samples_of(manifest, data)
    variants = _variants(manifest) if data is None else {}
    # Clients see this, so it does not name the folder.
    what = "held-out images" if data is None else "images that were chosen for it"
    made = make_reference(answer, manifest.answer, held_out, variants, what=what)
    if made is None:
        raise ConfigError(
            "there is nothing to make a reference of: it takes a network with gates, and "
            f"{LEAST_IMAGES} images"
        )
    folder = settings.model_store / manifest.name / manifest.version
    path = write_reference(folder, manifest, made)
    print(f"wrote {path}: {made.facts.what}, limit {made.facts.limit:.2f}")
    return 0


def _variants(manifest: Manifest) -> Mapping[str, Sequence[Sample]]:
    spec = trained_on(manifest)
    if spec is None or spec.kind == "folder":
        return {}
    return open_data(spec, manifest.input, AugmentSpec()).variants()
