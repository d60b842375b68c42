"""The inspector process: answers ``POST /inspect``, one image at a time, and ends when idle.

The supervisor has it forked when a front connects, and listens for it while there is none. It takes
no slot and no device: it computes on one thread of the CPU, and leaves that to everybody else's
work. While it computes, a doorkeeper turns others away.
"""

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import torch
from pydantic import ValidationError

from gsop.arena.messages import is_own
from gsop.environment import CageMode
from gsop.errors import GSoPError, NotReady, StoreError
from gsop.images import Pixels
from gsop.inspection.answer import write
from gsop.inspection.inspector import Inspector
from gsop.inspection.protocol import BUSY, HEADER, MOST_JSON, Frame, Question
from gsop.inspection.views import Inspection, Switched
from gsop.logs import configure
from gsop.processes.cage import cage_engine
from gsop.processes.lifeline import leave_with_supervisor
from gsop.processes.scheduling import let_work_gather

log = logging.getLogger("gsop.inspector")

NICENESS = 15
"""Added to its own: of a processor that others want, it gets some thirtieth part."""


def main(
    store: str,
    idle_seconds: float,
    cage: CageMode,
    log_level: str,
    log_form: str,
    lifeline_fd: int,
    listener_fd: int,
) -> None:
    """Be the inspector until nobody has asked for ``idle_seconds``, or the lifeline ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure("inspector", level=log_level, form=log_form, private=True)
    torch.set_num_threads(1)
    let_work_gather(NICENESS)
    cage_engine(cage)
    leave_with_supervisor(socket.socket(fileno=lifeline_fd), lambda *_: None)
    with socket.socket(fileno=listener_fd) as listener:
        serve(listener, Path(store), idle_seconds)
    os._exit(0)  # nothing is left to save, and torch takes seconds to take itself down


def serve(listener: socket.socket, store: Path, idle_seconds: float) -> None:
    """Answer who connects, until nobody has for ``idle_seconds``."""
    door = _Door(listener)
    desk = _Desk(store)
    while (connection := door.next(idle_seconds)) is not None:
        with connection, suppress(OSError):
            try:
                answer = desk.serve(connection)
            finally:
                door.is_free()  # before who was answered can come again
            if answer is not None:
                connection.sendall(answer.encode())


class _Door:
    """Lets one in, and turns the others away until it has left."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._inside = threading.Lock()
        self._visitors: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        threading.Thread(target=self._keep, name="door", daemon=True).start()

    def next(self, seconds: float) -> socket.socket | None:
        """Who comes next; ``None`` if nobody does for so long."""
        while True:
            try:
                return self._visitors.get(timeout=seconds)
            except queue.Empty:
                if self._inside.acquire(blocking=False):  # from now on nobody is let in
                    return None

    def is_free(self) -> None:
        """The one who was inside has left."""
        self._inside.release()

    def _keep(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not is_own(connection):
                log.error("refused a question of another user's process")
                connection.close()
            elif self._inside.acquire(blocking=False):
                self._visitors.put(connection)
            else:
                with connection, suppress(OSError):
                    connection.sendall(Frame({"error": BUSY}).encode())


class _Left(Exception):
    """Nobody waits for the answer any more."""


class _Desk:
    """Answers one question after the other; keeps the version that was asked about last."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._inspector: Inspector | None = None

    def serve(self, connection: socket.socket) -> Frame | None:
        """Take in one question; the answer, ``None`` if nobody waits for it."""
        try:
            question, pixels = _read(connection)
        except (EOFError, ValueError, ValidationError):
            return None  # the front has gone, or it was none
        deadline = time.monotonic() + question.seconds

        def check(_: int = 0) -> None:
            if time.monotonic() > deadline or _has_left(connection):
                raise _Left

        try:
            return Frame({}, self._answer(question, pixels, check))
        except _Left:
            return None
        except GSoPError as error:
            return Frame({"error": error.code, "detail": str(error)})
        except Exception:  # a defect: whoever asked is told, and the next question is taken
            log.exception("an inspection ran into a defect")
            return Frame({"error": GSoPError.code, "detail": "the inspection ran into a defect"})

    def _answer(self, question: Question, data: bytes, check: Callable[..., None]) -> bytes:
        inspector = self._open(question)
        images = _images(inspector, data, question.images)
        check()
        look = inspector.look(images[0])
        ablations = []
        for ablated in inspector.ablate(*images):
            ablations.append(ablated)
            check()
        channels: tuple[Switched, ...] = ()
        if question.gate is not None:
            channels = (inspector.switch(images[0], question.gate, report=check),)
        other = "the second one" if len(images) > 1 else None
        found = Inspection(
            f"{question.name}/{question.version}",
            "One image",
            other,
            look,
            tuple(ablations),
            channels,
        )
        return write(found, question.form, top_k=question.top_k, matrices=question.matrices)

    def _open(self, question: Question) -> Inspector:
        kept = self._inspector
        if kept is None or kept.manifest.sha256 != question.sha256:
            self._inspector = None  # before the next one takes memory
            try:
                kept = Inspector.open(self._store / question.name / question.version)
            except StoreError as error:  # names files of ours
                log.error("an inspection cannot be made: %s", error)
                raise NotReady(
                    "the version cannot be read from the store; the service's log says why"
                ) from error
        manifest = kept.manifest
        asked = (question.name, question.version, question.sha256)
        if (manifest.name, manifest.version, manifest.sha256) != asked:
            raise NotReady(
                "the version on disk is not the one that serves: load it again, or ask later"
            )
        self._inspector = kept
        return kept


def _images(inspector: Inspector, data: bytes, count: int) -> list[Pixels]:
    spec = inspector.manifest.input
    pixels = np.frombuffer(data, np.uint8)
    return list(pixels.reshape(count, spec.height, spec.width, 3))


def _read(connection: socket.socket) -> tuple[Question, bytes]:
    head, body = HEADER.unpack(_exactly(connection, HEADER.size))
    if head > MOST_JSON:
        raise ValueError("no question of ours is as long")
    question = Question.model_validate(orjson.loads(_exactly(connection, head)))
    return question, _exactly(connection, body)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        if not (some := connection.recv(min(count - len(data), 1 << 20))):
            raise EOFError
        data += some
    return bytes(data)


def _has_left(connection: socket.socket) -> bool:
    """Whether the front has closed its end: it says nothing after its question."""
    try:
        return not connection.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
