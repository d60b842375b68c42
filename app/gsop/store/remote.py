"""One place in an object store: S3, Google's, Azure's, or files behind HTTPS. No torch.

The one module that knows obstore (the extra ``remote``). It reads and writes objects, and turns
what obstore raises into three things: the store does not answer, the object is not there, the
object is another one than it was.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gsop.errors import ConfigError, StoreError, StoreUnreachable
from gsop.store.index import INDEX_FILE, MOST_BYTES

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "https", "http")

REQUEST_SECONDS = 60
"""The most that one request may take. A piece of :data:`gsop.store.mirror.PIECE` in this time is a
line of 140 kB/s: a slower one does not bring any model."""

PART = 1 << 16
"""Bytes of an answer that are looked at together, or as many as come at once."""

PIN = re.compile(r"sha256=([0-9a-f]{64})")


class Absent(Exception):
    """There is no such object."""


class Changed(Exception):
    """The object is another one than it was."""


class Taken(Exception):
    """There is such an object already."""


class Piece(NamedTuple):
    """Some bytes of an object.

    Attributes:
        data: the bytes.
        etag: what the store calls the object's content; ``None`` if it does not.
    """

    data: bytes
    etag: str | None


class Remote:
    """A store's address, opened; nothing is asked of it yet.

    Args:
        url: ``s3://bucket/prefix`` and its like. ``#sha256=…`` at its end is the digest that the
            index must have: then nobody who can write the store can have anything else served, and
            no new version is seen.

    Attributes:
        where: the address, for messages.
        pin: the digest that the index must have, if any.

    Raises:
        ConfigError: if it is no such address, or obstore is not installed.
    """

    def __init__(self, url: str) -> None:
        self.where, _, fragment = url.partition("#")
        found = PIN.fullmatch(fragment)
        if fragment and found is None:
            raise ConfigError(
                f"GSOP_REMOTE_STORE: {url} ends in #{fragment}, which is no #sha256=… of an index"
            )
        self.pin = found[1] if found else None
        self._scheme = urlsplit(self.where).scheme
        self._store = _open(self.where, is_pinned=self.pin is not None)

    def read_index(self) -> bytes:
        """The index.

        Raises:
            StoreUnreachable: if the store does not answer.
            StoreError: if it has none, or one of another digest than the pinned one.
        """
        data = self.read_whole(INDEX_FILE, MOST_BYTES)
        if self.pin is not None and hashlib.sha256(data).hexdigest() != self.pin:
            raise StoreError(
                f"{self.where}/{INDEX_FILE} is another one than the pinned one ({self.pin[:12]}…): "
                "somebody changed it; look at what changed before you pin the new one"
            )
        return data

    def read_whole(self, path: str, most: int) -> bytes:
        """A small object.

        Raises:
            StoreError: if there is none, or it is larger than ``most`` bytes.
        """
        try:
            with self._translated(path):
                got = self._get(path, {})
                if got.meta["size"] > most:
                    raise StoreError(f"{self.where}/{path} has more than {most} bytes")
                return _content(got, most)
        except Absent:
            raise StoreError(
                f"{self.where} has no {path}: publish to it with `gsop models push`"
            ) from None

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> Piece:
        """The bytes from ``start`` to before ``end``.

        Args:
            path: of the object.
            start: the first byte.
            end: after the last one, which must be there.
            etag: that the object must have.

        Raises:
            StoreUnreachable: if they do not come, or others do, or more.
            Absent: if there is no such object.
            Changed: if the object has another ``etag``.
        """
        options: dict[str, Any] = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = etag
        with self._translated(path):
            got = self._get(path, options)
            if etag is not None and got.meta["e_tag"] != etag:
                raise Changed
            if tuple(got.range) != (start, end):
                raise StoreUnreachable(
                    f"{self.where}/{path}: asked for bytes {start} to {end}, it sends "
                    f"{got.range[0]} to {got.range[1]}"
                )
            data = _content(got, end - start)
        if len(data) != end - start:
            raise StoreUnreachable(f"{self.where}/{path}: the transfer broke off")
        return Piece(data, got.meta["e_tag"])

    def tag_of(self, path: str) -> str | None:
        """What the store calls the object's present content; ``None`` if there is no object."""
        try:
            with self._translated(path):
                return self._store.head(path)["e_tag"]
        except Absent:
            return None

    def create(self, path: str, data: bytes | Path) -> None:
        """Write an object that is not there yet.

        Raises:
            Taken: if it is there.
        """
        self._put(path, data, "create")

    def replace(self, path: str, data: bytes, etag: str) -> None:
        """Write an object in place of the one that is there.

        Raises:
            Changed: if another one is there by now.
        """
        self._put(path, data, {"e_tag": etag})

    def _put(self, path: str, data: bytes | Path, mode: Any) -> None:
        if self._scheme in ("http", "https"):
            raise StoreError(
                f"{self.where} can only be read: publish to the bucket behind it (s3://, gs://, "
                "az://)"
            )
        with self._translated(path):
            self._store.put(path, data, mode=mode, use_multipart=False)

    def _get(self, path: str, options: Any) -> Any:
        return self._store.get(path, options=options)

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """What obstore raises, in our words."""
        from obstore import exceptions

        try:
            yield
        except (exceptions.NotFoundError, FileNotFoundError):
            raise Absent from None
        except exceptions.AlreadyExistsError:
            raise Taken from None
        except exceptions.PreconditionError:
            raise Changed from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise StoreUnreachable(
                f"{self.where}/{path} may not be used ({_first_line(error)}): give the service "
                "the right to, by the variables or the role of the store's vendor"
            ) from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise StoreUnreachable(
                f"{self.where}/{path} is not to be had: {_first_line(error)}"
            ) from error


def _open(address: str, *, is_pinned: bool) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import HTTPStore, from_url
    except ImportError as error:
        raise ConfigError(
            "GSOP_REMOTE_STORE needs obstore: install the extra `remote` (pip install '.[remote]')"
        ) from error
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ConfigError(
            f"GSOP_REMOTE_STORE: {address!r} is no address of a store: use s3://BUCKET/PREFIX, "
            "gs://…, az://… or https://…"
        )
    if parts.scheme == "http" and not (is_pinned or _is_here(parts.hostname or "")):
        raise ConfigError(
            f"GSOP_REMOTE_STORE: whoever is on the way to {address} could have other models "
            "served: use https://, or pin the index (#sha256=…)"
        )
    seconds = timedelta(seconds=REQUEST_SECONDS)
    options: dict[str, Any] = {
        "client_options": {"timeout": seconds, "connect_timeout": timedelta(seconds=5)},
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
    }
    try:
        if parts.scheme in ("http", "https"):
            options["client_options"]["allow_http"] = parts.scheme == "http"
            return HTTPStore(address, **options)
        # Where a bucket's endpoint is http://, the operator has said so (AWS_ENDPOINT_URL).
        options["client_options"]["allow_http"] = True
        return from_url(address, **options)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"GSOP_REMOTE_STORE: {address} cannot be used: {_first_line(error)}"
        ) from error


def _content(got: Any, most: int) -> bytes:
    """What comes, whatever the head of the answer has told of its length.

    Raises:
        ValueError: if it is more than ``most`` bytes.
    """
    content = bytearray()
    for part in got.stream(min_chunk_size=PART):
        content += part
        if len(content) > most:
            raise ValueError("more bytes come than it told of")
    return bytes(content)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
