"""``gsop models import``: from one of the authors' checkpoints to a version in the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gsop.commands.models.foreign import ForeignWeights, read_weights, report_passed_over
from gsop.commands.models.input import USUAL_INPUTS, InputOptions
from gsop.commands.models.labels import labels_for
from gsop.errors import StoreError
from gsop.model.foreign_names import known_names
from gsop.model.official import from_official
from gsop.model.resnet import GSoPResNet
from gsop.settings import Settings
from gsop.store.catalog import next_version
from gsop.store.store import check_new_version, publish

Fusion = Literal["fusion_avg", "fusion_max"]


def import_checkpoint(
    settings: Settings,
    checkpoint: Path,
    *,
    name: str,
    version: str | None,
    fusion: Fusion,
    labels: Path | None,
    input: Mapping[str, Any],
) -> int:
    """Convert and publish.

    Args:
        settings: where the store is.
        checkpoint: the authors' ``{epoch, arch, state_dict, best_prec1, optimizer}``, or the
            state dict alone.
        name: the model's name.
        version: the version's name; the next number if absent.
        fusion: what a network with both gates and no concatenation does with them.
        labels: a text file, a line a class.
        input: of :class:`InputOptions`: how images are prepared, where not as in the paper.

    Raises:
        SetupError: if the checkpoint, the labels or the input do not fit, or the version exists.
    """
    root = settings.own_store
    version = version or next_version(root, name)
    check_new_version(root, name, version)
    weights = read_weights(checkpoint)
    model = _convert(checkpoint, weights, fusion)
    folder = publish(
        root,
        model,
        name=name,
        version=version,
        input=InputOptions(**input).applied_to(USUAL_INPUTS[model.config.stem]),
        labels=labels_for(model.config.num_classes, labels),
        metrics=_claims(weights.facts),
        provenance={
            "made by": "gsop models import",
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": weights.sha256,
            **{fact: weights.facts[fact] for fact in ("arch", "epoch") if fact in weights.facts},
        },
    )
    print(f"published {name}/{version} in {folder}")
    return 0


def _convert(checkpoint: Path, weights: ForeignWeights, fusion: Fusion) -> GSoPResNet:
    try:
        report_passed_over((*weights.passed_over, *known_names(weights.state_dict).passed_over))
        model = from_official(weights.state_dict, fusion=fusion)
    except StoreError as error:
        raise StoreError(f"{checkpoint}: {error}") from error
    if model.config.gated_blocks == "none":
        # A plain ResNet has the same keys, but strides in its last stage, where the paper's do not.
        raise StoreError(
            f"{checkpoint} has no gates: make a GSoP-ResNet of a plain one with "
            f"`gsop models init --backbone {checkpoint}`"
        )
    return model


def _claims(facts: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's accuracy, under its own name, so that nobody takes it for one of ours."""
    if not facts.get("best_prec1"):  # 0 is what the release begins with, and measures nothing
        return {}
    return {
        "best_prec1": facts["best_prec1"],
        "how": "best_prec1 (top-1, percent) is the checkpoint's own claim, not measured here",
    }
