"""``gsop publish``: a run that came to its end becomes a version in the store."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gsop.backends.gpus import by_uuid
from gsop.backends.torch_device import compute_exactly, find_device
from gsop.errors import ConfigError
from gsop.gates.answers import AnswerLayout
from gsop.gates.reference import Reference
from gsop.model.config import gate_layout
from gsop.model.resnet import GSoPResNet
from gsop.paths import check_folder
from gsop.settings import Settings
from gsop.store.catalog import next_version
from gsop.store.store import check_new_version, publish
from gsop.train.data.dataset import DataSet
from gsop.train.evaluate import measure
from gsop.train.reference import answer_with, make_reference
from gsop.train.run import Run


def publish_run(settings: Settings, folder: Path, *, name: str | None, version: str | None) -> int:
    """Measure the run's network on the held-out images, and publish it.

    Args:
        settings: where the store is, and where to compute.
        folder: the run's.
        name: the model's name; the recipe's if absent.
        version: a new one; the next number if absent.

    Raises:
        SetupError: if the run has not come to its end, or the version exists.
    """
    run = Run(folder)
    result = run.result
    root = settings.own_store
    name = name or run.recipe.name
    version = version or next_version(root, name)
    check_folder(check_new_version(root, name, version))
    model = run.load_model()
    called = settings.devices[0]
    device = find_device(by_uuid(called, os.environ), called)
    compute_exactly()  # what is measured is said to be float32
    data = _data_at_hand(run)
    metrics: dict[str, Any]
    reference, temperature = None, 1.0
    if data is not None:
        metrics, temperature = measure(model, run.recipe.input, data, device=device)
        reference = _reference(run, model, data, device)
    else:
        metrics = {
            "dataset": f"{run.data.source.get('dataset', run.recipe.name)}, held-out part",
            "top1": result.top1,
            "samples": result.held_out,
            "how": f"{run.data.how}. Measured at the end of the training; the images were no "
            "longer at hand when the version was published",
        }
    path = publish(
        root,
        model.cpu(),
        name=name,
        version=version,
        input=run.recipe.input,
        labels=run.data.labels,
        metrics=metrics,
        provenance=_provenance(run),
        temperature=temperature,
        reference=reference,
    )
    if data is None:
        print(
            f"published {name}/{version} in {path}: its images are not those at hand any more, so "
            f"nothing was measured; the training itself saw {result.top1:.2%}"
        )
        return 0
    print(
        f"published {name}/{version} in {path}: {metrics['top1']:.2%} of the held-out images"
        + _calibrated(temperature, metrics.get("calibration"))
    )
    return 0


def _calibrated(temperature: float, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"\ntemperature {temperature:g}: the calibration error is {found['error']:.2%}, and would "
        f"be {found['error_before']:.2%} without it"
    )


def _reference(
    run: Run, model: GSoPResNet, data: DataSet, device: torch.device
) -> Reference | None:
    """What the gates look like on the held-out images, for drift to be judged by."""
    spec, config = run.recipe.input, model.config
    layout = AnswerLayout(data.labels, gate_layout(config, spec.height, spec.width))
    answer = answer_with(model, layout, spec, device=device)
    variants = data.variants()
    return make_reference(answer, layout, data.held_out(), variants, what="held-out images")


def _data_at_hand(run: Run) -> DataSet | None:
    """The run's images, if they are still those that it was trained on."""
    try:
        data = run.recipe.open_data()
    except ConfigError:
        return None
    return data if data.fingerprint == run.data.fingerprint else None


def _provenance(run: Run) -> dict[str, Any]:
    result = run.result
    values = run.recipe.model_dump(mode="json")
    values["data"]["path"] = None  # of this machine, and no business of who is served
    return {
        "recipe": run.recipe.name,
        "values": values,
        "seed": run.recipe.seed,
        "steps": result.steps,
        "data": run.data.source | {"fingerprint": run.data.fingerprint, "images": run.data.images},
        "training": result.model_dump(
            include={"images", "seconds", "images_per_second", "processes", "loss"}
        ),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": result.device,
    }
