import numpy as np
import pytest

from gsop.arena.messages import (
    Decoder,
    Kind,
    Message,
    encode,
    encode_payload,
    pack_reply,
    unpack_reply,
)

STREAM = (
    encode(Kind.INFER, 7, 2**63)
    + encode_payload(Kind.QUERY, 5, b"what?")
    + encode_payload(Kind.REPLY, 6, b"")
    + encode(Kind.DONE, 7, 2**63)
)
MESSAGES = [
    Message(Kind.INFER, 7, 2**63),
    Message(Kind.QUERY, 5, 5, b"what?"),
    Message(Kind.REPLY, 0, 6, b""),
    Message(Kind.DONE, 7, 2**63),
]


@pytest.mark.parametrize("piece", [1, 2, 15, 16, 17, 40, 1000])
def test_messages_survive_any_cutting_of_the_stream(piece: int) -> None:
    decoder = Decoder()
    pieces = [STREAM[at : at + piece] for at in range(0, len(STREAM), piece)]
    assert [message for data in pieces for message in decoder.feed(data)] == MESSAGES


@pytest.mark.parametrize("shape", [(0,), (3,), (4, 5)])
def test_replies_carry_arrays(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    meta, read = unpack_reply(pack_reply({"samples": 3}, values))
    assert meta == {"samples": 3}
    np.testing.assert_array_equal(read, values)
