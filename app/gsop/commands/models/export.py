"""``gsop models export``: a version in the forms that other software runs or reads.

Whatever the form, the input is what the network itself takes: normalised images in float32, NCHW.
The sentence that says so is written into every file.
"""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gsop.errors import ConfigError, StoreError
from gsop.model.official import to_official
from gsop.model.resnet import GSoPResNet
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest
from gsop.store.store import load

Format = Literal["onnx", "pt2", "official"]

INPUT = "images"
LOGITS = "logits"


def export(settings: Settings, reference: str, *, form: Format, output: Path) -> int:
    """Write a version to a file, which appears whole or not at all.

    Args:
        settings: where the store is.
        reference: ``name`` for the newest version, or ``name/version``.
        form: ``onnx`` or ``pt2`` (``torch.export``), both with any batch size and with outputs
            ``logits`` and each gate by name; or ``official``, a checkpoint for the authors' code.
        output: the file; replaced if it exists.

    Raises:
        SetupError: if the version cannot be loaded or written in that form.
    """
    manifest = resolve(settings.model_store, reference)
    with _appearing_whole(output) as file:
        _, model = load(settings.model_store / manifest.name / manifest.version)
        _WRITERS[form](file, manifest, model.requires_grad_(False))
    print(f"exported {manifest.name}/{manifest.version} to {output}")
    return 0


def describe_input(manifest: Manifest) -> str:
    """What the network takes, in a sentence."""
    spec = manifest.input
    return (
        f"{INPUT}: float32 (batch, 3, {spec.height}, {spec.width}), channels R, G, B, each "
        f"(pixel / 255 - mean) / std with mean {spec.mean} and std {spec.std}; the image's short "
        f"side is scaled to {spec.resize} and the centre cut out"
    )


class _Named(nn.Module):
    """The network with all its outputs in one flat dictionary, by name."""

    def __init__(self, network: GSoPResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        output = self.network(images)
        return {LOGITS: output.logits, **output.gates}


def _write_onnx(file: Path, manifest: Manifest, model: GSoPResNet) -> None:
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it, and says so less clearly
    except ImportError as error:
        raise ConfigError(
            "ONNX export needs onnx and onnxscript: install the extra `export` of this project, "
            "or choose --format pt2"
        ) from error
    with warnings.catch_warnings():
        # The exporter calls what torch itself has deprecated.
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.`", FutureWarning)
        program = torch.onnx.export(
            _Named(model).eval(),
            (_example(manifest),),
            dynamo=True,  # the opset is the one that the exporter is made for
            input_names=[INPUT],
            output_names=[LOGITS, *(gate.name for gate in manifest.answer.gates)],
            dynamic_shapes={INPUT: {0: "batch"}},
            verbose=False,
        )
    assert program is not None  # noqa: S101 - for the type checker; only the old exporter says so
    program.model.metadata_props.update(_metadata(manifest))
    program.save(file)


def _write_pt2(file: Path, manifest: Manifest, model: GSoPResNet) -> None:
    program = torch.export.export(
        _Named(model).eval(),
        (_example(manifest),),
        dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
    )
    with file.open("wb") as opened:  # under its temporary name torch would miss the suffix
        torch.export.save(program, opened, extra_files=_metadata(manifest))


def _write_official(file: Path, manifest: Manifest, model: GSoPResNet) -> None:
    if model.config.last_stride != 1:
        raise StoreError(
            "the authors' networks have stride 1 in the last stage and cannot be told otherwise, "
            f"this one has {model.config.last_stride}: export it as onnx or pt2"
        )
    checkpoint = {
        "epoch": 0,
        "arch": f"resnet{model.config.depth}",
        # They train under DataParallel, which puts a prefix before every key.
        "state_dict": {f"module.{key}": tensor for key, tensor in to_official(model).items()},
        "best_prec1": 0.0,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1).state_dict(),
        **_metadata(manifest),
    }
    # The release runs on PyTorch before 1.6, which cannot read the newer file format.
    torch.save(checkpoint, file, _use_new_zipfile_serialization=False)


_WRITERS: dict[Format, Callable[[Path, Manifest, GSoPResNet], None]] = {
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "official": _write_official,
}


def _example(manifest: Manifest) -> Tensor:
    """Images to trace with: two, for a batch of one would be taken for a constant."""
    return torch.zeros(2, 3, manifest.input.height, manifest.input.width)


def _metadata(manifest: Manifest) -> dict[str, str]:
    return {"gsop.input": describe_input(manifest), "gsop.manifest": manifest.model_dump_json()}


@contextmanager
def _appearing_whole(path: Path) -> Iterator[Path]:
    """A hidden file to write to, which becomes ``path`` at the end, or is removed."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file with --output")
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        hidden.touch()  # whether it can be written is asked before the minutes of an export
        yield hidden
        hidden.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}): name another with --output"
        ) from error
    finally:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
