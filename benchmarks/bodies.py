"""The request bodies: JPEGs of a real photograph, made anew and always the same.

The photograph is one that scikit-learn bundles, so the decoder has real texture to do with.
"""

import simplejpeg
from cv2 import INTER_AREA, INTER_CUBIC, resize

SIZES = {"small": (500, 375), "large": (4000, 3000)}
"""Width and height: the usual ImageNet picture, and a 12-megapixel photograph."""

_QUALITY = 86
"""It makes about 50 kB of the small one."""


def jpeg(name: str) -> bytes:
    """The body of that name (see ``SIZES``)."""
    return photograph(*SIZES[name])


def photograph(width: int, height: int) -> bytes:
    """A JPEG of that size, sides as 4 to 3."""
    from sklearn.datasets import load_sample_image

    china = load_sample_image("china.jpg")  # (427, 640, 3)
    cut = china[:, (640 - 427 * 4 // 3) // 2 :][:, : 427 * 4 // 3]
    pixels = resize(cut, (width, height), interpolation=INTER_AREA if width < 640 else INTER_CUBIC)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=_QUALITY, colorsubsampling="420"))
