"""Request bodies to image bytes: raw, multipart and JSON, counted while they stream.

Everything stays in memory: a body is bounded by ``GSOP_MAX_BODY_BYTES``, and all the bodies of a
front together by ``GSOP_BODY_MEMORY_BYTES``, so nothing needs a temporary file (the file system may
be read-only, and writing to one would block the event loop).
"""

from gsop.api.http.bodies.json_form import MAX_JSON_VALUES
from gsop.api.http.bodies.parts import FIELD, Parts
from gsop.api.http.bodies.reading import LARGE_BYTES, read_images, refuse_compressed

__all__ = ["FIELD", "LARGE_BYTES", "MAX_JSON_VALUES", "Parts", "read_images", "refuse_compressed"]
