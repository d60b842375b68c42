"""What is sent for an image and is none is refused by its own name."""

import pytest

from gsop.errors import InvalidImage
from gsop.images import decode
from tests.images.support import MAX_PIXELS, SPEC, assert_fit_for_a_client

KINDS = {
    "PDF": b"%PDF-1.7\n",
    "SVG": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "page": b"\n<!doctype html><html>",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG XL": b"\xff\x0a\xfa\x1f",
    "Icons": b"\0\0\1\0\1\0",
    "Photoshop": b"8BPS\0\1",
    "raw file": b"II\x1a\0\0\0HEAPCCDR",
    "video": b"\0\0\0\x18ftypmp42",
    "archive": b"\x1f\x8b\x08\0",
    "as if they were text": b"\xef\xbf\xbdPNG\r\n",
    "--data-binary": b"\x89PNG\x1a\0\0\0\rIHDR",
    "Netpbm": b"P6 1 1 255 abc",
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize(("name", "data"), KINDS.items(), ids=KINDS)
def test_what_is_no_image_that_is_read_is_named(name: str, data: bytes) -> None:
    with pytest.raises(InvalidImage, match=name) as caught:
        decode(data, SPEC, max_pixels=MAX_PIXELS)
    assert_fit_for_a_client(caught.value)
