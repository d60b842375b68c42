"""The request bodies: JPEGs of a real photograph, made anew and always the same.

The photograph is one that scikit-learn bundles, so the decoder has real texture to do with.
"""

import simplejpeg
from cv2 import INTER_AREA, INTER_CUBIC, resize

SIZES = {"small": (500, 375), "large": (4000, 3000)}
"""Width and height: the usual ImageNet picture, and a 12-megapixel photograph."""

_QUALITY = {"small": 86, "large": 86}
"""Quality 86 makes about 50 kB of the small one."""


def jpeg(name: str) -> bytes:
    """The body of that name (see ``SIZES``)."""
    from sklearn.datasets import load_sample_image

    photograph = load_sample_image("china.jpg")  # (427, 640, 3)
    width, height = SIZES[name]
    cut = photograph[:, (640 - 427 * 4 // 3) // 2 :][:, : 427 * 4 // 3]
    pixels = resize(cut, (width, height), interpolation=INTER_AREA if width < 640 else INTER_CUBIC)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=_QUALITY[name], colorsubsampling="420"))
