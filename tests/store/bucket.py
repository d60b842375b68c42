"""A bucket that speaks as much of S3 as is needed here, and misbehaves when it is told to."""

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

MUCH = 64 << 20


class Bucket(ThreadingHTTPServer):
    """Objects in memory, behind a port of the loopback interface.

    Attributes:
        objects: by their paths in the bucket.
        asked: how often each method was used on each path.
        torn: transfers that are to break off half-way.
        endless: whether pieces are to go on for :data:`MUCH` more than is asked for.
        sent: bytes of those.
        failing: requests that are to be answered 500.
        slow: seconds before each answer.
        on_get: is called with the path before each GET is answered.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()
        self.torn = self.failing = self.sent = 0
        self.endless = False
        self.slow = 0.0
        self.on_get: Callable[[str], None] = lambda path: None

    @property
    def endpoint(self) -> str:
        """Of the bucket ``models``."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Clients leave; that is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def bucket(self) -> Bucket:
        return cast("Bucket", self.server)

    @property
    def name(self) -> str:
        return self.path.partition("?")[0].removeprefix("/models/")

    def log_message(self, *_: Any) -> None:
        pass

    def _refused(self) -> bool:
        with self.bucket.lock:
            self.bucket.asked[self.command, self.name] += 1
            fails = self.bucket.failing > 0
            self.bucket.failing -= fails
        time.sleep(self.bucket.slow)
        if fails:
            self._answer(500)
        return fails

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self._begin(status, {**headers, "Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused():
            return
        with self.bucket.lock:
            there = self.bucket.objects.get(self.name)
            wanted = self.headers.get("If-Match")
            if there is not None and self.headers.get("If-None-Match") == "*":
                self._answer(412)
                return
            if wanted is not None and (there is None or tag(there) != wanted):
                self._answer(412)
                return
            self.bucket.objects[self.name] = data
        self._answer(200, ETag=tag(data))

    def do_GET(self) -> None:
        if self._refused():
            return
        self.bucket.on_get(self.name)
        data = self.bucket.objects.get(self.name)
        if data is None:
            self._answer(404)
            return
        headers = {"ETag": tag(data), "Last_Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}
        if self.headers.get("If-Match") not in (None, tag(data)):
            self._answer(412)
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None:
            self._answer(200, data, **headers)
            return
        start, end = int(found[1]), min(int(found[2]) + 1, len(data))
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        if self.bucket.endless:
            self._go_on(headers)
            return
        with self.bucket.lock:
            tears = self.bucket.torn > 0
            self.bucket.torn -= tears
        if not tears:
            self._answer(206, data[start:end], **headers)
            return
        self._begin(206, {**headers, "Content-Length": str(end - start)})
        self.wfile.write(data[start : (start + end) // 2])
        self.wfile.flush()
        self.close_connection = True

    def _go_on(self, headers: dict[str, str]) -> None:
        self._begin(206, {**headers, "Content-Length": str(MUCH)})
        part = b"x" * (1 << 16)
        for _ in range(MUCH // len(part)):
            self.wfile.write(part)
            self.bucket.sent += len(part)

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()


def tag(data: bytes) -> str:
    """What a bucket calls that content."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def served_bucket() -> Iterator[Bucket]:
    """A bucket, empty; the variables name it as S3's endpoint."""
    bucket = Bucket()
    thread = threading.Thread(target=bucket.serve_forever)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in variables(bucket).items():
                patched.setenv(name, value)
            yield bucket
    finally:
        bucket.shutdown()
        thread.join()
        bucket.server_close()


def variables(bucket: Bucket) -> dict[str, str]:
    """The environment in which ``s3://models`` is that bucket."""
    return {
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
    }
