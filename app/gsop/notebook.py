"""A stored model in a notebook: images in, answers that print well out.

It is the network itself, which remembers what its manifest says, so that whoever has files, arrays
or Pillow's images need not know how they are to be prepared::

    model = gsop.load("photos")
    model.predict("holiday/*.jpg").to_pandas()
"""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from gsop import html
from gsop.errors import ConfigError
from gsop.images import InputSpec, Pixels, centred, decode
from gsop.model.resnet import GSoPOutput, GSoPResNet
from gsop.store.manifest import Manifest

if TYPE_CHECKING:
    import pandas

AT_ONCE = 64
"""Images that are computed together."""

MAX_PIXELS = 200_000_000
"""Largest image that is decoded: one's own files may be larger than those of strangers."""

SHOWN = 20
"""Answers that are printed."""

OneImage: TypeAlias = str | PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A file (or a glob of files), its bytes, an image of Pillow's, or pixels (H, W, 3) in R, G, B."""

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        name: the file's, or ``image N``.
        labels: one text a class.
        probabilities: (classes,) float32.
        gates: by name, each in its own shape.
    """

    name: str
    labels: tuple[str, ...]
    probabilities: Values
    gates: Mapping[str, Values]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """Its probability."""
        return float(self.probabilities.max())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes and their probabilities, in order."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[n], float(self.probabilities[n])) for n in order]

    def __repr__(self) -> str:
        told = ", ".join(f"{label} {share:.3f}" for label, share in self.top(3))
        return f"{self.name}: {told}"


class Predictions(Sequence[Prediction]):
    """The answers for several images, in their order.

    Attributes:
        names: the files', or ``image N``.
        labels: one text a class.
        probabilities: (N, classes) float32.
        gates: by name, each (N, …).
    """

    def __init__(
        self,
        names: tuple[str, ...],
        labels: tuple[str, ...],
        probabilities: Values,
        gates: Mapping[str, Values],
    ) -> None:
        self.names = names
        self.labels = labels
        self.probabilities = probabilities
        self.gates = gates

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            some = {name: gate[index] for name, gate in self.gates.items()}
            kept = self.names[index], self.labels, self.probabilities[index], some
            return Predictions(*kept)
        gates = {name: gate[index] for name, gate in self.gates.items()}
        return Prediction(self.names[index], self.labels, self.probabilities[index], gates)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[number] for number in range(len(self)))

    def to_pandas(self) -> "pandas.DataFrame":
        """A row an image: ``name``, ``label``, ``probability``, and each class's probability.

        Raises:
            ConfigError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(
                "pandas is not installed: pip install '.[frames]', or take .probabilities"
            ) from error
        columns: dict[str, Any] = {
            "name": list(self.names),
            "label": [one.label for one in self],
            "probability": self.probabilities.max(axis=1),
        }
        columns |= {f"p({t})": self.probabilities[:, n] for n, t in enumerate(self.labels)}
        return pandas.DataFrame(columns)

    def __repr__(self) -> str:
        lines = [repr(one) for one in self[:SHOWN]]
        more = [f"… {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([*lines, *more]) or "no images"

    def _repr_html_(self) -> str:
        rows = [(one.name, one.label, f"{one.probability:.3f}") for one in self[:SHOWN]]
        return html.table(("image", "class", "probability"), rows, name="answers", numbers=2)


class Model(GSoPResNet):
    """A stored network that knows its manifest. See :func:`gsop.load`.

    It is on the CPU and in evaluation mode; ``model.to("cuda")`` takes it elsewhere.

    Attributes:
        manifest: all that is known of the version.
    """

    manifest: Manifest
    _given: Mapping[str, Values] = {}
    """Gates that are taken instead of those that would be computed; see :meth:`with_gates`."""

    @classmethod
    def of(cls, manifest: Manifest, network: GSoPResNet) -> Self:
        """The model of a version.

        Args:
            manifest: of the version.
            network: of the version; its layers are shared.
        """
        model = cls.__new__(cls)
        model.__dict__.update(network.__dict__)
        model.manifest = manifest
        return model

    @property
    def labels(self) -> tuple[str, ...]:
        """One text a class."""
        return self.manifest.labels

    def forward(
        self, images: torch.Tensor, given: Mapping[str, torch.Tensor] | None = None
    ) -> GSoPOutput:
        """As :meth:`gsop.model.resnet.GSoPResNet.forward`, with the gates that are held.

        Args:
            images: (N, 3, height, width), normalised.
            given: gates instead of all that are held, by name, each (N, …).
        """
        return super().forward(images, self._given_for(images) if given is None else given)

    @torch.inference_mode()
    def predict(self, images: OneImage | Iterable[OneImage]) -> Predictions:
        """Answer images as the service would: prepared and scaled as the manifest says.

        Args:
            images: one, or several: files or globs of them, bytes, Pillow's images, or arrays.

        Raises:
            ConfigError: if a name is that of no file.
            InvalidImage: if one is no image that can be read.
        """
        names: list[str] = []
        parts = [np.zeros((0, len(self.labels)), np.float32)]
        gates: dict[str, list[Values]] = {gate.name: [] for gate in self.manifest.answer.gates}
        for some, batch in self._batches(images):
            output = self(batch)
            logits = output.logits.float() / self.manifest.temperature
            parts.append(logits.softmax(dim=1).cpu().numpy())
            for name, values in gates.items():
                values.append(output.gates[name].float().cpu().numpy())
            names += some
        return Predictions(
            tuple(names),
            self.labels,
            np.concatenate(parts),
            {name: np.concatenate(some) for name, some in gates.items() if some},
        )

    def gates(self, images: OneImage | Iterable[OneImage]) -> Mapping[str, Values]:
        """What the gates let through of images, by the gate's name: each (N, …), in (0, 1)."""
        return self.predict(images).gates

    @torch.inference_mode()
    def covariances(self, images: OneImage | Iterable[OneImage]) -> Mapping[str, Values]:
        """The covariance that each gate is made of, by the gate's name: each (N, d, d), symmetric.

        A row tells with which of the reduced channels (of the positions, for a gate of these) one
        of them fires together. Gates that are made of none (squeeze-and-excitation) are left out.

        Args:
            images: as in :meth:`predict`.

        Raises:
            ConfigError: as :meth:`predict` does, and so is ``InvalidImage``.
        """
        found: dict[str, list[Values]] = {}
        for _, batch in self._batches(images):
            for name, parts in self.gate_parts(batch, self._given_for(batch)):
                if parts.matrix is not None:
                    found.setdefault(name, []).append(parts.matrix.float().cpu().numpy())
        return {name: np.concatenate(some) for name, some in found.items()}

    def with_gates(self, gates: Mapping[str, npt.ArrayLike]) -> Self:
        """This model, with some of its gates held: what would it answer if they were so?

        Args:
            gates: by a gate's name, or a stage's for all of its gates: one number for all of the
                gate (1 opens it, 0 closes it), or an array of its shape, such as another image's.

        Returns:
            A model that shares the weights; this one stays as it is.

        Raises:
            ConfigError: if there is no such gate, or it has another shape.
        """
        held = dict(self._given)
        for name, values in gates.items():
            specs = [s for s in self.manifest.answer.gates if f"{s.name}.".startswith(f"{name}.")]
            if not specs:
                known = ", ".join(s.name for s in self.manifest.answer.gates)
                raise ConfigError(f"no gate is called {name}; there are {known}")
            for spec in specs:
                array = np.asarray(values, np.float32)
                if array.shape not in ((), spec.shape):
                    raise ConfigError(
                        f"{spec.name} is {spec.shape}, and what is given is {array.shape}: give an "
                        "array of that shape, or one number"
                    )
                held[spec.name] = np.broadcast_to(array, spec.shape)
        model = self.of(self.manifest, self)
        model._given = held
        return model

    def _given_for(self, batch: torch.Tensor) -> dict[str, torch.Tensor] | None:
        """The gates that are held, each with the batch's images in front."""
        if not self._given:
            return None
        return {
            name: torch.tensor(values, device=batch.device).expand(len(batch), *values.shape)
            for name, values in self._given.items()
        }

    def _batches(
        self, images: OneImage | Iterable[OneImage]
    ) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Names and normalised images (N, 3, height, width), some at a time."""
        names: list[str] = []
        pixels: list[Pixels] = []
        for name, image in self._read_all(images):
            names.append(name)
            pixels.append(image)
            if len(names) == AT_ONCE:
                yield names, self._normalised(np.stack(pixels))
                names, pixels = [], []
        if names:
            yield names, self._normalised(np.stack(pixels))

    def _read_all(self, images: OneImage | Iterable[OneImage]) -> Iterator[tuple[str, Pixels]]:
        single = isinstance(images, str | PathLike | bytes | Image.Image | np.ndarray)
        several = [cast(OneImage, images)] if single else cast(Iterable[OneImage], images)
        number = 0
        for one in several:
            if isinstance(one, str | PathLike):
                for file in _files(one):
                    yield str(file), decode(file.read_bytes(), self._spec, max_pixels=MAX_PIXELS)
                    number += 1
                continue
            yield f"image {number}", self._pixels(one)
            number += 1

    def _pixels(self, image: "bytes | Image.Image | npt.NDArray[np.uint8]") -> Pixels:
        if isinstance(image, bytes):
            return decode(image, self._spec, max_pixels=MAX_PIXELS)
        array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ConfigError(
                f"an array of {array.dtype}, {array.shape}, is no image: give uint8, (height, "
                "width, 3), in R, G, B"
            )
        return centred(np.ascontiguousarray(array), self._spec)

    @property
    def _spec(self) -> InputSpec:
        return self.manifest.input

    def _normalised(self, pixels: Pixels) -> torch.Tensor:
        like = next(self.parameters())
        mean, std = (
            torch.tensor(values, device=like.device).view(1, 3, 1, 1)
            for values in (self._spec.mean, self._spec.std)
        )
        images = torch.from_numpy(pixels).to(like.device).permute(0, 3, 1, 2).contiguous()
        return ((images.float() / 255 - mean) / std).to(like.dtype)

    def __repr__(self) -> str:
        manifest, config = self.manifest, self.config
        top1 = manifest.metrics.get("top1")
        measured = f", top-1 {top1:.2%}" if isinstance(top1, float) else ""
        return (
            f"{manifest.name}/{manifest.version}: GSoP-ResNet-{config.depth}, "
            f"{len(self.labels)} classes, {manifest.input.height}×{manifest.input.width}{measured}"
        )


def _files(name: "str | PathLike[str]") -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    found = [Path(file) for file in sorted(glob.glob(str(name), recursive=True))]  # noqa: PTH207  # absolute ones too
    if not found:
        raise ConfigError(f"{name} names no file")
    return found
