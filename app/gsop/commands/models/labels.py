"""The names of the classes that a new version is published with."""

from pathlib import Path

from gsop.commands.models.zoo import imagenet_labels
from gsop.errors import ConfigError

IMAGENET_CLASSES = 1000


def labels_for(classes: int, file: Path | None) -> list[str]:
    """One text a class.

    Args:
        classes: how many there are.
        file: a line each; if absent, ImageNet's names for 1000 classes, else ``class 0`` and on.

    Raises:
        ConfigError: if the file does not name each class, or ImageNet's names are not to be had.
    """
    if file is None:
        if classes == IMAGENET_CLASSES:
            return imagenet_labels()
        return [f"class {number}" for number in range(classes)]
    labels = read_labels(file)
    if len(labels) != classes:
        raise ConfigError(
            f"{file} has {len(labels)} labels, the network {classes} classes: write one line a "
            "class, in the order of the logits"
        )
    return labels


def read_labels(file: Path) -> list[str]:
    """The lines of a text file; empty ones at its end do not count.

    Raises:
        ConfigError: if it cannot be read, or a line among the others is empty.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text: save it as one, a label a line") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    labels = [line.strip() for line in text.rstrip().splitlines()]
    if not all(labels):
        number = labels.index("") + 1
        raise ConfigError(f"line {number} of {file} is empty: write one label a line")
    return labels
