"""A text that is written anew while others read it."""

import threading

import pytest

from gsop.arena.block import Role
from gsop.arena.bulletin import MOST_BYTES, Bulletin, Writer
from gsop.arena.service import ServiceMemory


def read_by(memory: ServiceMemory, parsed: list[bytes] | None = None) -> Bulletin[bytes]:
    def parse(text: bytes) -> bytes:
        if parsed is not None:
            parsed.append(text)
        return text

    hand = ServiceMemory.attach(memory.fd, Role("front"))
    return Bulletin(hand.view("traffic"), parse)


def test_the_newest_text_is_read_and_made_sense_of_once(memory: ServiceMemory) -> None:
    parsed: list[bytes] = []
    writer, seen = Writer(memory.own("traffic")), read_by(memory, parsed)
    assert seen.value == b""
    for text in (b"one", b"a longer one", b"two", b""):
        writer.write(text)
        assert (seen.value, seen.value) == (text, text)
    assert parsed == [b"", b"one", b"a longer one", b"two", b""]


def test_too_long_a_text_leaves_the_one_before(memory: ServiceMemory) -> None:
    writer, seen = Writer(memory.own("traffic")), read_by(memory)
    writer.write(b"x" * MOST_BYTES)
    with pytest.raises(ValueError, match="there is room for"):
        writer.write(b"x" * (MOST_BYTES + 1))
    assert seen.value == b"x" * MOST_BYTES


def test_a_reader_never_sees_halves(memory: ServiceMemory) -> None:
    writer, ended = Writer(memory.own("traffic")), threading.Event()
    writer.write(b"0" * 20_000)

    def write() -> None:
        for number in range(3000):
            writer.write(str(number % 10).encode() * (20_000 - number))
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        text = read_by(memory).value
        assert len(set(text)) == 1, "parts of two texts"
    thread.join()
    assert read_by(memory).value == b"9" * 17_001
