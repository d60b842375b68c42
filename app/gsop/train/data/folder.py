"""A folder of images: a folder for each class, or such folders in ``train/`` and ``val/``."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from gsop.errors import ConfigError, RequestError
from gsop.images import InputSpec, Pixels, decode_whole
from gsop.train.data.augment import augment
from gsop.train.data.dataset import BrokenImage, Classes, Sample
from gsop.train.data.listing import Split, find_split, list_classes, told
from gsop.train.data.spec import AugmentSpec, DataSpec

MAX_PIXELS = 200_000_000
"""Largest image that is decoded: one's own files may be larger than those of strangers."""

_File = tuple[str, int]
"""A path below the root, with forward slashes, and its class."""


class FolderData:
    """Images in folders, as a :class:`gsop.train.data.dataset.DataSet`.

    The fingerprint is the SHA-256 of the sorted names, sizes and classes of all files: it notices
    what was added, removed, renamed or cut short, without reading the images.

    Args:
        spec: where they lie.
        input: the network's input.
        how: how training images are varied.

    Raises:
        ConfigError: if the folder holds no classes, or too few images of one.
    """

    def __init__(self, spec: DataSpec, input: InputSpec, how: AugmentSpec) -> None:
        if spec.path is None:
            raise ConfigError("the recipe reads a folder of images: say which with --data DIR")
        self._root = spec.path
        self._input = input
        self._how = how
        split = find_split(spec.path)
        if split is not None:
            self.labels, self._train, self._held_out, passed_over = _two_trees(spec.path, split)
            self.how = f"the images in {split.held_out.name}/; training never sees them"
        else:
            self.labels, self._train, self._held_out, passed_over = _split(spec)
            self.how = (
                f"of each class {spec.validation:.0%}, at least one image, chosen by the seed "
                f"{spec.split_seed}; training never sees them"
            )
        note = split.note if split is not None else ""
        self.passed_over = "; ".join(filter(None, (note, passed_over)))
        self.source: Mapping[str, str] = {
            "dataset": spec.path.resolve().name,
            "kind": "folder",
            **({"passed over": self.passed_over} if self.passed_over else {}),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted names, sizes and classes."""
        digest = hashlib.sha256()
        for name, label in sorted(self._train + self._held_out):
            size = (self._root / name).stat().st_size
            digest.update(f"{name}\0{size}\0{self.labels[label]}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._train)

    def training_labels(self) -> Classes:
        """The class of each image to train on, (N,)."""
        return np.array([label for _, label in self._train], np.int64)

    def training_image(self, index: int, seed: int) -> tuple[Pixels, int]:
        """See :meth:`gsop.train.data.dataset.DataSet.training_image`."""
        name, label = self._train[index]
        try:
            pixels = decode_whole((self._root / name).read_bytes(), max_pixels=MAX_PIXELS)
        except (OSError, RequestError) as error:
            raise BrokenImage(name, str(error)) from error
        return augment(pixels, self._input, self._how, seed), label

    def held_out(self) -> Sequence[Sample]:
        """The held-out files, read when they are asked for."""
        return Files(self._root, self._held_out)

    def variants(self) -> Mapping[str, Sequence[Sample]]:
        """None."""
        return {}


def labelled_files(root: Path, class_id: Callable[[str], int | None]) -> "Files":
    """All images in ``root``, a folder for each class, under the numbers that a model gives them.

    Args:
        root: the folder.
        class_id: the number of the class that a folder's name means; ``None`` if there is none.

    Raises:
        ConfigError: if there are no such folders, or one is named as no class.
    """
    files: list[_File] = []
    classes, passed_over = list_classes(root, at_least=1)
    for name, paths in classes.items():
        label = class_id(name)
        if label is None:
            raise ConfigError(
                f"{root / name} is named as none of the model's classes: name each folder by the "
                "class's label, or by its number"
            )
        files += [(path, label) for path in paths]
    return Files(root, files, told(passed_over))


class Files(Sequence[Sample]):
    """Files, read when they are asked for; one that is gone is empty, as no image is.

    Attributes:
        passed_over: what else lies there, in words.
    """

    def __init__(self, root: Path, files: list[_File], passed_over: str = "") -> None:
        self.passed_over = passed_over
        self._root = root
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._read(*file) for file in self._files[index]]
        return self._read(*self._files[index])

    def _read(self, name: str, label: int) -> Sample:
        try:
            return Sample((self._root / name).read_bytes(), label, name)
        except OSError:
            return Sample(b"", label, name)


_Divided = tuple[tuple[str, ...], list[_File], list[_File], str]
"""Labels, training files, held-out files, and what was passed over."""


def _two_trees(root: Path, split: Split) -> _Divided:
    train, val = list_classes(split.train), list_classes(split.held_out)
    if train.classes.keys() != val.classes.keys():
        odd = ", ".join(sorted(train.classes.keys() ^ val.classes.keys())[:5])
        raise ConfigError(
            f"{root}: {split.train.name}/ and {split.held_out.name}/ must hold the same classes; "
            f"only one has {odd}"
        )
    return (
        tuple(train.classes),
        _numbered(train.classes, f"{split.train.name}/"),
        _numbered(val.classes, f"{split.held_out.name}/"),
        told(train.passed_over + val.passed_over),
    )


def _numbered(classes: dict[str, list[str]], above: str) -> list[_File]:
    return [(above + name, label) for label, names in enumerate(classes.values()) for name in names]


def _split(spec: DataSpec) -> _Divided:
    assert spec.path is not None  # noqa: S101 - FolderData has looked
    classes, passed_over = list_classes(spec.path)
    train: list[_File] = []
    held_out: list[_File] = []
    for label, (folder, names) in enumerate(classes.items()):
        if len(names) < 2:
            raise ConfigError(
                f"{spec.path / folder} holds one image: a class needs at least two, one of them "
                "to be held out"
            )
        count = min(max(1, round(spec.validation * len(names))), len(names) - 1)
        order = np.random.default_rng((spec.split_seed, label)).permutation(len(names))
        held_out += [(names[i], label) for i in sorted(order[:count])]
        train += [(names[i], label) for i in sorted(order[count:])]
    return tuple(classes), train, held_out, told(passed_over)
