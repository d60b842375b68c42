"""What counts as an image and as a class in a folder; what is passed over is counted aloud."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gsop.errors import ConfigError
from gsop.images import SUFFIXES
from gsop.paths import is_left_behind, is_utf8, printable

TRAINING = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "dev", "test", "testing")
"""What the parts of a split are called, in small letters; of several, the first is taken."""


class Listing(NamedTuple):
    """The images below each class's folder.

    Attributes:
        classes: paths below the root, with forward slashes, by class; both in their names' order.
        passed_over: how many files were left out, by reason.
    """

    classes: dict[str, list[str]]
    passed_over: Counter[str]


class Split(NamedTuple):
    """A folder that is divided already.

    Attributes:
        train: what to train on.
        held_out: what not to.
        note: what was taken for what, where it is not plain; else empty.
    """

    train: Path
    held_out: Path
    note: str


def find_split(root: Path) -> Split | None:
    """The parts of a folder with ``train/`` and ``val/``, by whatever usual names and case.

    A folder counts as a part only if it holds folders: ``train`` may also be a class of vehicles.

    Raises:
        ConfigError: if there is one without the other, or the folder cannot be read.
    """
    parts: dict[str, list[Path]] = {}
    for folder in folders_of(root):
        name = folder.name.lower()
        if name in (*TRAINING, *HELD_OUT) and any(folders_of(folder)):
            parts.setdefault(name, []).append(folder)
    train = [folder for name in TRAINING for folder in parts.get(name, ())]
    held_out = [folder for name in HELD_OUT for folder in parts.get(name, ())]
    if not train and not held_out:
        return None
    if not train or not held_out:
        raise ConfigError(
            f"{root} has one of train/ and val/ ({(train + held_out)[0].name}/): make both, or put "
            "the folders of the classes directly into it, and a part of each is held out"
        )
    if len(train) > 1:
        raise ConfigError(f"{root} has {train[0].name}/ and {train[1].name}/: keep one of them")
    others = "".join(f", {folder.name}/ is not looked at" for folder in held_out[1:])
    plain = train[0].name == "train" and held_out[0].name == "val" and not others
    note = f"{train[0].name}/ is trained on, {held_out[0].name}/ held out{others}"
    return Split(train[0], held_out[0], "" if plain else note)


def list_classes(root: Path, at_least: int = 2) -> Listing:
    """The images in ``root``, a folder for each class.

    Links are followed. Passed over, and counted: hidden parts at any depth, what systems leave
    behind, files with other endings than images have, names that are no UTF-8.

    Raises:
        ConfigError: if there are fewer classes than ``at_least``, or one without images.
    """
    folders = sorted(folders_of(root))
    if len(folders) < at_least:
        raise ConfigError(
            f"{root} holds {len(folders)} folders: it takes one for each class, at least "
            f"{at_least}, named as the classes, with their images in them"
        )
    classes: dict[str, list[str]] = {}
    passed_over: Counter[str] = Counter()
    for folder in folders:
        if not is_utf8(folder):
            raise ConfigError(f"the folder {printable(folder)} is no UTF-8: rename it")
        names = (file.relative_to(root).as_posix() for file in _images(folder, passed_over))
        classes[folder.name] = sorted(names)
        if not classes[folder.name]:
            raise ConfigError(
                f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): add some, or remove it"
            )
    return Listing(classes, passed_over)


def told(passed_over: Counter[str]) -> str:
    """What was passed over, in words; empty if nothing was."""
    return ", ".join(f"{count} {reason}" for reason, count in passed_over.most_common())


def folders_of(root: Path) -> Iterator[Path]:
    """The folders in ``root`` that are somebody's own.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        entries = [entry for entry in root.iterdir() if entry.is_dir()]
    except OSError as error:
        raise ConfigError(
            f"{root} cannot be read ({error.strerror}): --data takes a folder that holds a folder "
            "of images for each class"
        ) from error
    return (entry for entry in entries if not is_left_behind(entry.name))


def _images(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for above, folders, files in os.walk(folder, followlinks=True):
        status = Path(above).stat()
        place = (status.st_dev, status.st_ino)
        if place in seen:
            passed_over["folders that a link leads back to"] += 1
            folders.clear()
            continue
        seen.add(place)
        for name in list(folders):
            if is_left_behind(name):
                passed_over["hidden or system folders"] += 1
                folders.remove(name)
        for name in files:
            file = Path(above, name)
            reason = _reason_against(file)
            if reason is None:
                yield file
            else:
                passed_over[reason] += 1


def _reason_against(file: Path) -> str | None:
    if file.name.startswith("."):
        return "hidden files"
    if not is_utf8(file):
        return "files whose names are no UTF-8"
    if file.suffix.lower() not in SUFFIXES:
        return f"{file.suffix.lower() or 'unnamed'} files"
    return None if file.is_file() else "links that lead nowhere"
