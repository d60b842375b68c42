"""The inspector process: born when it is asked, one image at a time, gone when idle."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gsop.arena.messages import address_prefix, connect
from gsop.errors import DeadlineExceeded, NotReady, Overloaded
from gsop.images import Pixels
from gsop.inspection.inspector import Inspector
from gsop.inspection.protocol import FORMS, HEADER, Frame, Question, ask
from gsop.processes.nursery import Birth, Nursery
from gsop.processes.orphans import Orphanage
from gsop.serving.on_demand import OnDemand
from gsop.store.catalog import resolve
from tests.support import eventually

pytestmark = pytest.mark.slow

IDLE_SECONDS = 1.0


class Demanded:
    """An inspector on demand."""

    def __init__(self, store: Path, idle_seconds: float, folder: Path) -> None:
        self.store = store
        self.address = f"{address_prefix(secrets.token_hex(4), str(folder))}-inspector"
        self.nursery = Nursery(["torch"], os.environ, Orphanage(adopt=False))
        self.door = OnDemand(
            "inspector",
            self.address,
            self.nursery,
            lambda listener: Birth(
                "gsop-inspector",
                "gsop.inspection.process:main",
                [str(store), idle_seconds, "auto", "info", "text"],
                [listener],
            ),
        )

    def question(self, **changes: Any) -> Question:
        manifest = resolve(self.store, "tiny")
        asked = Question(
            name="tiny",
            version="1",
            sha256=manifest.sha256,
            form=FORMS[0],
            gate="layer4.1.channel",
            top_k=3,
            matrices=False,
            images=1,
            seconds=120,
        )
        return asked.model_copy(update=changes)

    def ask(self, **changes: Any) -> Any:
        question = self.question(**changes)
        images = [pixels(seed) for seed in range(question.images)]
        return orjson.loads(asyncio.run(ask(self.address, question, images)))

    @property
    def lives(self) -> bool:
        return self.door._process is not None


def pixels(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def demanded(tiny_store: Path, tmp_path: Path) -> Iterator[Demanded]:
    found = Demanded(tiny_store, IDLE_SECONDS, tmp_path)
    found.door.start()
    yield found
    found.door.end()
    found.nursery.close()
    assert not found.lives


def test_it_answers_what_the_library_answers_and_goes_when_idle(demanded: Demanded) -> None:
    assert not demanded.lives, "nobody has asked"
    answer = demanded.ask(images=2, matrices=True)

    inspector = Inspector.open(demanded.store / "tiny" / "1")
    look = inspector.look(pixels(0))
    assert [p["class_id"] for p in answer["predictions"]] == [
        score.class_id for score in look.top_classes(3)
    ]
    for told, view in zip(answer["gates"], look.gates, strict=True):
        assert view.matrix is not None
        np.testing.assert_allclose(told["matrix"], view.matrix, atol=1e-12)
        np.testing.assert_allclose(told["logits"], view.logits, atol=1e-12)
    ablations = list(inspector.ablate(pixels(0), pixels(1)))
    assert [(a["stage"], a["way"]) for a in answer["ablations"]] == [
        (a.stage, a.way) for a in ablations
    ]
    for told, ablated in zip(answer["ablations"], ablations, strict=True):
        assert told["logit"] == pytest.approx(ablated.logits[look.class_id], abs=1e-12)
    switched = inspector.switch(pixels(0), "layer4.1.channel")
    np.testing.assert_allclose(answer["channels"][0]["effects"], switched.effects, atol=1e-12)
    assert answer["channels"][0]["strongest"] == list(switched.strongest(20))

    eventually(lambda: not demanded.lives)
    assert demanded.ask(gate=None)["channels"] == [], "and another one comes when it is asked"


def is_refused(demanded: Demanded) -> bool:
    """Somebody else is inside."""
    with pytest.raises(Overloaded, match="at work on another image"):
        demanded.ask(gate=None)
    return True


def test_while_it_is_at_work_others_are_turned_away(demanded: Demanded) -> None:
    with connect(demanded.address) as inside:  # connected, and takes its time to ask
        eventually(lambda: demanded.lives)
        eventually(lambda: is_refused(demanded))
        inside.setblocking(True)
        frame = Frame(
            demanded.question(gate=None).model_dump(), np.zeros((32, 32, 3), np.uint8).tobytes()
        )
        inside.sendall(frame.encode())
        head, _ = HEADER.unpack(inside.recv(HEADER.size, socket.MSG_WAITALL))
        assert orjson.loads(inside.recv(head, socket.MSG_WAITALL)) == {}
    assert eventually(lambda: demanded.ask(gate=None))


def test_what_goes_wrong_is_said(demanded: Demanded) -> None:
    with pytest.raises(NotReady, match="not the one that serves"):
        demanded.ask(sha256="0" * 64)
    with pytest.raises(NotReady, match="cannot be read from the store"):
        demanded.ask(name="nobody")
    with pytest.raises(DeadlineExceeded, match="more with timeout_ms"):
        demanded.ask(seconds=0.001)


def test_a_death_costs_one_question(demanded: Demanded) -> None:
    with connect(demanded.address) as inside:
        process = eventually(lambda: demanded.door._process)
        eventually(lambda: is_refused(demanded))  # it has let this one in
        process.send_signal(signal.SIGKILL)
        inside.setblocking(True)
        assert inside.recv(1) == b""
    assert eventually(lambda: demanded.ask(gate=None))


def test_where_nobody_listens(tmp_path: Path, tiny_store: Path) -> None:
    found = Demanded(tiny_store, 1, tmp_path)
    found.door.end()
    with pytest.raises(NotReady, match="try again"):
        found.ask()
    found.nursery.close()
