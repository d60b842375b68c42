"""Which form of an answer the client wants (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from python_multipart.multipart import parse_options_header

from gsop.errors import NotAcceptable


def choose(accept: str, offers: Sequence[str]) -> str:
    """The media type of ``offers`` that an Accept header likes best; earlier ones win ties.

    Raises:
        NotAcceptable: if it admits none.
    """
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    ranked = [(_quality(offer, ranges), -place) for place, offer in enumerate(offers)]
    quality, place = max(ranked)
    if quality <= 0:
        raise NotAcceptable(f"Accept admits none of {', '.join(offers)}")
    return offers[-place]


def _parse(part: str) -> tuple[str, float]:
    kind, options = parse_options_header(part.strip())
    try:
        quality = float(options.get(b"q", b"1"))
    except ValueError:
        quality = 0.0
    return kind.decode("latin-1"), quality


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality that the most specific matching range gives; 0 without one."""
    for pattern in (offer, offer.partition("/")[0] + "/*", "*/*"):
        matches = [quality for kind, quality in ranges if kind == pattern]
        if matches:
            return max(matches)
    return 0.0
