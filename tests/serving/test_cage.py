"""A decoder that has been taken over finds no way out of its cage, and harms nobody but itself."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsop.environment import CageMode
from gsop.errors import GSoPError, ImageTooLarge, InvalidImage
from gsop.processes.cage import missing
from gsop.processes.nursery import Nursery
from gsop.processes.orphans import Orphanage
from gsop.serving.decoder import ANSWER_BYTES, Answer
from tests.escapes import WAYS, Outside
from tests.hostile_decoder import ESCAPED, REFUSED
from tests.serving.support import GOOD, HOSTILE, Lost, decode, decoders, outcome
from tests.support import ROOT, START_SECONDS, descendants

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"this system does not give {missing()}"),
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    made = Nursery([HOSTILE, "gsop.images:prepare"], environment, Orphanage(adopt=False))
    yield made
    made.close()


PLACE = "gsop/images/jpeg.py:7 decode"

Outcome = tuple[int | GSoPError, dict[str, int]]


def escape(
    nursery: Nursery, way: str, outside: Outside, *, entry: str = "main", cage: CageMode = "auto"
) -> Outcome:
    """What becomes of an image that tries one way out; the next one is decoded in any case."""

    async def run() -> Outcome:
        lost = Lost()
        async with decoders(nursery, lost, entry=entry, cage=cage) as made:
            data = b"try " + json.dumps({"way": way, **outside._asdict()}).encode()
            found = await outcome(made, data)
            assert await decode(made, GOOD) == 7
        return found, lost.counts

    return asyncio.run(run())


@pytest.mark.parametrize("way", WAYS)
def test_a_way_out_is_shut(nursery: Nursery, outside: Outside, way: str) -> None:
    found, lost = escape(nursery, way, outside)
    assert isinstance(found, InvalidImage)
    assert "breaks its decoder" in str(found)
    assert lost == {"forbidden": 1}


@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"start_a_program"}))
def test_without_the_cage_it_is_a_way_out(nursery: Nursery, outside: Outside, way: str) -> None:
    """Or the test above would show nothing."""
    found, lost = escape(nursery, way, outside, cage="off")
    assert (found, lost) == (ESCAPED, {})


def test_without_the_cage_another_program_takes_its_place(
    nursery: Nursery, outside: Outside
) -> None:
    found, lost = escape(nursery, "start_a_program", outside, cage="off")
    assert isinstance(found, InvalidImage)
    assert lost == {"crashed": 2}  # each ended as that program does


@pytest.mark.parametrize("way", WAYS)
def test_filters_alone_shut_every_way(nursery: Nursery, outside: Outside, way: str) -> None:
    found, lost = escape(nursery, way, outside, entry="main_without_landlock")
    assert isinstance(found, InvalidImage)
    assert lost == {"forbidden": 1}


HARMLESS = {
    *("map_memory_to_run", "have_memory_run", "be_traced_again", "change_its_personality"),
    *("wait_for_long", "fork"),
}
"""What only a filter refuses: none of it leads out."""


@pytest.mark.parametrize("way", sorted(WAYS.keys() - HARMLESS))
def test_without_filters_every_way_out_is_shut(
    nursery: Nursery, outside: Outside, way: str
) -> None:
    found, lost = escape(nursery, way, outside, entry="main_without_seccomp")
    assert (found, lost) == (REFUSED, {})


def test_images_are_decoded_as_without_it() -> None:
    """All formats and kinds, and what fuzzing has found: their tests, with a caged decoder."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.caged"]
    chosen = ["tests/images", "tests/fuzz/test_targets.py", "-k", "not bodies and not accept"]
    done = subprocess.run(
        [*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 300


def test_a_decoder_may_have_threads(nursery: Nursery) -> None:
    """Some decoders decode in threads of their own, as libheif does."""

    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            assert await decode(made, b"start a thread") == 3

    asyncio.run(run())


# ── what it says ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("message", "error", "unforeseen"),
    [
        (b"\0", None, ()),
        (b"\1It is damaged.", InvalidImage, ()),
        (b"\2It is large.", ImageTooLarge, ()),
        (b"\3KeyError\ngsop/images/jpeg.py:7 decode", InvalidImage, ("KeyError", PLACE)),
    ],
)
def test_what_a_decoder_may_say(
    message: bytes, error: type[GSoPError] | None, unforeseen: tuple[str, ...]
) -> None:
    answer = Answer.parse(message)
    assert answer.unforeseen == unforeseen
    assert isinstance(answer.error, error) if error else answer.error is None


LIES = [
    *(b"\0\0", b"+", b"\4", b"x", b"\1\xff", b"\1a\nb", b"\1\x1b[2J", b"\2\xe2\x80\xae"),
    *(b"\3Key\x07Error", b"\3\r\n", b"\1" * ANSWER_BYTES, b"\0" * 2 * ANSWER_BYTES),
]


@pytest.mark.parametrize("message", LIES, ids=repr)
def test_what_no_decoder_says(message: bytes) -> None:
    with pytest.raises(ValueError):
        Answer.parse(message)


@given(st.binary(max_size=100))
@settings(deadline=None, derandomize=True, database=None)
def test_nothing_else_comes_of_what_it_says(message: bytes) -> None:
    with contextlib.suppress(ValueError):
        answer = Answer.parse(message)
        assert all(line.isprintable() for line in (str(answer.error), *answer.unforeseen))


def test_who_lies_is_ended_and_the_image_refused(nursery: Nursery) -> None:
    async def run() -> None:
        lost = Lost()
        async with decoders(nursery, lost, entry="main_that_lies") as made:
            for number, message in enumerate(LIES[:3], start=1):
                assert isinstance(await outcome(made, message), InvalidImage)
                assert lost.counts == {"forbidden": number}

    asyncio.run(run())


def test_who_speaks_unasked_is_ended(nursery: Nursery) -> None:
    async def run() -> None:
        lost = Lost()
        async with decoders(nursery, lost, entry="main_that_talks"):
            async with asyncio.timeout(START_SECONDS):
                while not lost.counts["forbidden"]:  # noqa: ASYNC110  # the meter tells nobody
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_who_denies_to_have_begun_gets_the_image_a_few_times_only(nursery: Nursery) -> None:
    async def run() -> None:
        lost = Lost()
        async with decoders(nursery, lost, entry="main_that_denies") as made:
            assert isinstance(await outcome(made, GOOD), InvalidImage)

    asyncio.run(run())


def test_a_stopped_decoder_is_replaced(nursery: Nursery) -> None:
    """Its own timer does not end it: signals wait until it goes on."""

    async def run() -> None:
        lost, others = Lost(), decoders_there()
        async with decoders(nursery, lost) as made:
            assert await decode(made, GOOD) == 7
            os.kill(the_decoder(others), signal.SIGSTOP)
            assert await decode(made, GOOD) == 7
        assert not lost.counts  # it had not begun: the image is not to blame

    asyncio.run(run())


def test_a_decoder_leaves_after_its_share_of_time(nursery: Nursery) -> None:
    """As nobody keeps one for long; and no image is blamed for it."""

    async def run() -> None:
        lost, others = Lost(), decoders_there()
        async with decoders(nursery, lost) as made:
            assert await decode(made, b"\1") == 1
            others.add(the_decoder(others))
            assert await decode(made, b"tire") == 0
            for number in range(2, 20):
                assert await decode(made, bytes([number])) == number
            assert the_decoder(others)
        assert not lost.counts

    asyncio.run(run())


def decoders_there() -> set[int]:
    """Their pids: also of servers that other tests have started, and of those about to leave."""
    names = descendants(os.getpid())
    return {pid for pid, name in names.items() if name == "gsop-decoder"}


def the_decoder(others: set[int]) -> int:
    """The only one that was not there before."""
    (pid,) = decoders_there() - others
    return pid
