"""Until when a certificate is valid: for whoever watches that it is renewed.

The ``ssl`` module tells that of a peer's certificate only, so its place is looked up in the DER
(RFC 5280, 4.1): ``Certificate{ tbs{ [0] version, serial, signature, issuer, validity{…} } }``.
"""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


class _Element(NamedTuple):
    tag: int
    content: bytes
    rest: bytes


def expiry(chain: Path) -> float:
    """When the first of a chain's certificates expires, in Unix seconds.

    Args:
        chain: a PEM file that :mod:`ssl` has taken.

    Raises:
        OSError: if it cannot be read.
    """
    found = _PEM.findall(chain.read_text(encoding="ascii", errors="replace"))
    return min(_not_after(ssl.PEM_cert_to_DER_cert(pem)) for pem in found)


def _not_after(certificate: bytes) -> float:
    rest = _element(_element(certificate).content).content
    if rest[0] == _VERSION:
        rest = _element(rest).rest
    for _ in ("serial", "signature", "issuer"):
        rest = _element(rest).rest
    after = _element(_element(_element(rest).content).rest)
    text = after.content.decode()
    if after.tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(data: bytes) -> _Element:
    """The first element of some DER."""
    length, begin = data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin])
    return _Element(data[0], data[begin : begin + length], data[begin + length :])
