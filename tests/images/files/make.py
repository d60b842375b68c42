"""How the HEIC files beside this were made: ``python -m tests.images.files.make``.

Wants pillow-heif, whose wheel holds an encoder (x265, GPL) that the service neither needs nor has.
``arithmetic.jpg`` is ``jpegtran -arithmetic`` of ``tests.images.test_rare.JPEG``.
"""

from pathlib import Path
from typing import Any

import pillow_heif  # type: ignore[import-not-found]
from PIL import Image

from tests.imagery import exif, picture, stored

FOLDER = Path(__file__).parent


def main() -> None:
    """Write them."""
    scene = picture(61, 83)
    for orientation in range(1, 9):
        image = Image.fromarray(stored(scene, orientation))
        image.save(FOLDER / f"turned-{orientation}.heic", exif=exif(orientation), **_BEST)
    square = picture(32, 32)
    Image.fromarray(square).save(FOLDER / "square.heic", **_BEST)
    Image.fromarray(square[..., 0]).save(FOLDER / "grey.heic", **_BEST)
    clear = Image.fromarray(square).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 16, 32))
    clear.save(FOLDER / "clear.heic", **_BEST)


_BEST: dict[str, Any] = {"quality": 98, "chroma": 444}

if __name__ == "__main__":
    pillow_heif.register_heif_opener()
    main()
