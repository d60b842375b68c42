"""Decoders that hang, crash, eat memory: the image is refused, everybody else is served."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gsop.errors import DeadlineExceeded, GSoPError, ImageTooLarge, InvalidImage
from gsop.processes.nursery import Nursery
from gsop.serving.decoding import Effort
from tests.imagery import chunk, picture, png
from tests.serving.support import GOOD, SECONDS, Lost, decode, decoders, outcome
from tests.support import START_SECONDS, Server, descendants, eventually, random_pngs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("data", "kind", "text", "lost"),
    [
        (b"loop", InvalidImage, "more than 0.5 s", {"hung": 1}),
        (b"wait", InvalidImage, "more than 0.5 s", {"hung": 1}),
        (b"block signals", InvalidImage, "more than 0.5 s", {"hung": 1}),
        (b"stop its timer", InvalidImage, "more than 0.5 s", {"hung": 1}),
        (b"crash", InvalidImage, "breaks its decoder", {"crashed": 2}),
        (b"abort", InvalidImage, "breaks its decoder", {"crashed": 2}),
        (b"exit", InvalidImage, "breaks its decoder", {"crashed": 2}),
        (b"raise", InvalidImage, "cannot be decoded", {}),
        (b"eat", ImageTooLarge, "too much memory", {}),
    ],
)
def test_a_hostile_image_is_refused_and_the_next_one_decoded(
    nursery: Nursery, data: bytes, kind: type[GSoPError], text: str, lost: dict[str, int]
) -> None:
    async def run() -> None:
        seen = Lost()
        async with decoders(nursery, seen) as made:
            assert await decode(made, GOOD) == 7
            began = time.monotonic()
            with pytest.raises(kind, match=text):
                await decode(made, data)
            assert time.monotonic() - began < 30
            assert await decode(made, GOOD) == 7
            assert await decode(made, b"\10", model=1) == 8
        assert seen.counts == lost

    asyncio.run(run())


def test_hostile_images_among_good_ones_harm_none(nursery: Nursery) -> None:
    async def run() -> None:
        seen = Lost()
        async with decoders(nursery, seen, count=3) as made:
            sent = [b"crash", b"raise", b"exit", b"wait", *(bytes([i]) for i in range(200))]
            sent = sent[4::2] + sent[:4] + sent[5::2]
            answers = await asyncio.gather(*(outcome(made, data) for data in sent))
        for data, answer in zip(sent, answers, strict=True):
            assert isinstance(answer, InvalidImage) if len(data) > 1 else answer == data[0]
        assert seen.counts == {"crashed": 4, "hung": 1}

    asyncio.run(run())


def test_an_image_is_not_blamed_for_decoders_that_died_before_it(nursery: Nursery) -> None:
    async def run() -> None:
        seen = Lost()
        async with decoders(nursery, seen, count=2) as made:
            await asyncio.gather(decode(made, GOOD), decode(made, GOOD))
            helpers = [pid for pid, name in made_here().items() if name == "gsop-decoder"]
            for pid in helpers:
                os.kill(pid, signal.SIGSTOP)
            waiting = asyncio.ensure_future(decode(made, GOOD))
            await asyncio.sleep(0)  # now one of them has it, and has not begun
            for pid in helpers:
                os.kill(pid, signal.SIGKILL)
            assert await waiting == 7
        assert not seen.counts

    asyncio.run(run())


def test_costly_images_of_one_client_are_in_nobody_elses_way(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost(), count=2) as made:
            await decode(made, GOOD, client="quick")
            costly = [asyncio.ensure_future(outcome(made, b"wait", "costly")) for _ in range(4)]
            await asyncio.sleep(0)
            for _ in range(20):
                assert await decode(made, GOOD, client="quick") == 7
            assert sum(future.done() for future in costly) <= 1
            for future in costly:
                future.cancel()

    asyncio.run(run())


def test_what_nobody_waits_for_is_forgotten_at_once(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            await decode(made, GOOD)
            hung = asyncio.ensure_future(outcome(made, b"wait"))
            await asyncio.sleep(0)
            left = asyncio.ensure_future(decode(made, GOOD))
            late = asyncio.ensure_future(outcome(made, GOOD, seconds=0.05))
            await asyncio.sleep(0)
            assert made.waiting == 2
            left.cancel()
            assert isinstance(await late, DeadlineExceeded)
            assert made.waiting == 0
            assert isinstance(await hung, InvalidImage)

    asyncio.run(run())


def test_the_images_of_a_request_have_a_budget_together(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            effort = Effort(SECONDS / 2)
            assert await decode(made, GOOD, effort=effort) == 7
            with pytest.raises(InvalidImage):
                await decode(made, b"wait", effort=effort)
            with pytest.raises(ImageTooLarge, match="send fewer in one request"):
                await decode(made, GOOD, effort=effort)
            assert await decode(made, GOOD) == 7

    asyncio.run(run())


def test_a_decoder_that_is_stopped_without_work_is_replaced(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsop.serving.decoders.CALL_SECONDS", 0.1)

    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            await decode(made, GOOD)
            (stopped,) = [pid for pid, name in made_here().items() if name == "gsop-decoder"]
            os.kill(stopped, signal.SIGSTOP)
            await asyncio.to_thread(eventually, lambda: stopped not in made_here())
            assert await decode(made, GOOD) == 7
            await asyncio.sleep(2.5)  # the next one is asked, and answers
            assert await decode(made, GOOD) == 7
            assert made.silence < 60

    asyncio.run(run())


def test_deadlines_hold_while_every_decoder_hangs(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            await decode(made, GOOD)
            hung = asyncio.ensure_future(outcome(made, b"wait"))
            await asyncio.sleep(0)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await decode(made, GOOD, seconds=0.05)
            assert time.monotonic() - began < SECONDS
            assert isinstance(await hung, InvalidImage)

    asyncio.run(run())


def test_who_gives_up_is_not_written_to(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            out = np.zeros((4, 4, 3), np.uint8)
            deadline = time.monotonic_ns() + 10**10
            await decode(made, GOOD)
            given_up = asyncio.ensure_future(made.decode(GOOD, 0, out, deadline=deadline))
            await asyncio.sleep(0)
            given_up.cancel()
            assert await decode(made, b"\11") == 9
            assert not out.any()

    asyncio.run(run())


def made_here() -> dict[int, str]:
    """This process's nursery and decoders; other tests' servers may be running."""
    found = descendants(os.getpid())
    mothers = {
        pid
        for pid, name in found.items()
        if name == "gsop-nursery" and parent_of(pid) == os.getpid()
    }
    return {
        pid: name
        for pid, name in found.items()
        if pid in mothers or (name == "gsop-decoder" and parent_of(pid) in mothers)
    }


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_decoders_leave_with_their_front_and_the_nursery_after_them(nursery: Nursery) -> None:
    async def run() -> dict[int, str]:
        async with decoders(nursery, Lost(), count=2) as made:
            await asyncio.gather(decode(made, GOOD), decode(made, GOOD))
            async with asyncio.timeout(START_SECONDS):
                while len(made_here()) < 3:  # noqa: ASYNC110  # nobody announces a birth
                    await asyncio.sleep(0.01)
            return made_here()

    below = asyncio.run(run())
    assert sorted(below.values()) == ["gsop-decoder", "gsop-decoder", "gsop-nursery"]
    nursery.close()
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_a_killed_nursery_is_replaced(nursery: Nursery) -> None:
    async def run() -> None:
        async with decoders(nursery, Lost()) as made:
            await decode(made, GOOD)
            (mother,) = [pid for pid, name in made_here().items() if name == "gsop-nursery"]
            os.kill(mother, signal.SIGKILL)
            assert await decode(made, GOOD) == 7  # its child is an orphan, and still there
            assert isinstance(await outcome(made, b"crash"), InvalidImage)
            assert await decode(made, GOOD) == 7

    asyncio.run(run())


# ── the real decoders, in a real server ──────────────────────────────────────────────────────────

IMAGE = random_pngs(1)[0]


def slow_png(chunks: int) -> bytes:
    """A whole PNG of which every byte is right, and which takes Pillow seconds to walk through."""
    return png(picture(16, 16), 2, before=chunk(b"tEXt", b"a\0b") * chunks)


@pytest.fixture(scope="module")
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny", decode_seconds=0.25, decoders=2) as server:
        yield server.wait_ready()


def test_a_slow_image_is_refused_in_time(server: Server) -> None:
    bomb = slow_png(500_000)
    front = server.child("gsop-front-0")
    lost = server.metric("gsop_decoders_lost_total", reason="hung")
    answer = server.http.post("/predict", content=bomb, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_image")
    assert "takes more than 0.25 s" in answer.json()["detail"]
    assert server.metric("gsop_decoders_lost_total", reason="hung") == lost + 1
    assert server.predict(IMAGE)["predictions"]
    assert server.child("gsop-front-0") == front


def test_killed_decoders_lose_no_request(server: Server) -> None:
    front = server.child("gsop-front-0")
    for _ in range(5):
        for pid, name in server.descendants().items():
            if name == "gsop-decoder":
                os.kill(pid, signal.SIGKILL)
        assert server.predict(IMAGE)["predictions"]
    assert server.child("gsop-front-0") == front
    eventually(lambda: list(server.descendants().values()).count("gsop-decoder") == 2)
