"""What a body holds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gsop.errors import InvalidParameter

FIELD = "image"
"""The form's field, and the JSON member, that holds an image."""

IMAGE_FIELDS = frozenset({FIELD, "images", "image[]", "images[]"})
"""The names under which clients send images in a form."""


@dataclass(frozen=True)
class Parts:
    """A body, taken apart.

    Attributes:
        images: files, one at least.
        options: parameters of the query that came with them, by name.
    """

    images: list[bytes]
    options: Mapping[str, object] = field(default_factory=dict)


def check_names(names: Collection[str], options: Collection[str]) -> None:
    """Refuse, by its name, what would otherwise be ignored in silence.

    Args:
        names: of the members that are no images.
        options: the names that are read.

    Raises:
        InvalidParameter: if another one is among them.
    """
    unknown = sorted(set(names) - set(options))
    if unknown:
        known = ", ".join(sorted(options))
        raise InvalidParameter(
            f"{unknown[0][:64]!r} is no member that is read; a body may hold image or images, and "
            f"the options {known}"
        )
