"""Clients that send without pause and know what each answer must be."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support import Server

ANSWER_SECONDS = 60.0
"""A request that is not answered by then has been lost."""

IDLE_SECONDS = 30.0
"""After a round that took so long (this process was stopped) the connection may be closed."""

PAUSE_SECONDS = 0.05
"""Before the next try where nobody takes the connection."""

Scores = dict[str, float]
Where = tuple[str, int]


def where(url: str) -> Where:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status and body of one answer, and whether the server closes the connection after it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    fields = dict(line.partition(b":")[::2] for line in head.split(b"\r\n")[1:])
    body = await reader.readexactly(int(fields[b"content-length"]))
    return int(head.split()[1]), body, fields.get(b"connection", b"").strip() == b"close"


def scores(answer: dict[str, Any]) -> Scores:
    """Label → probability of an answer to one image."""
    return {entry["label"]: entry["probability"] for entry in answer["predictions"]}


def same(some: Scores, others: Scores) -> bool:
    """Whether all that ``some`` lists is in ``others`` with the same probability."""
    return all(abs(others[label] - probability) < 1e-4 for label, probability in some.items())


@dataclass(frozen=True)
class Question:
    """A request and what it must be answered.

    Attributes:
        data: the request's bytes.
        expected: for each image in it, its scores when nothing else is asked.
        status: what it must be answered.
        by_version: of one image, its scores by the version that answers, where there are several.
    """

    data: bytes
    expected: tuple[Scores, ...] = ()
    status: int = 200
    by_version: Mapping[str, Scores] = field(default_factory=dict)


def questions(server: Server, images: Sequence[bytes]) -> list[Question]:
    """One request an image; the right answers are asked for here, in peace."""
    from tests.chaos.shots import request

    return [
        Question(request(image), (scores(server.predict(image, top_k=10)),)) for image in images
    ]


@dataclass
class Tally:
    """What became of the requests.

    Attributes:
        right: answered as they must be.
        statuses: of the answers that are not right.
        wrong: the first of them, in words.
        broken: local ports of connections that ended with a request on them.
        unanswered: requests that were waited for in vain.
        unreachable: times that nobody took a connection.
        seconds: the longest that an answer took.
        took: of each answer the seconds, and when it came (monotonic).
        versions: answers by the version that gave them.
    """

    right: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    unanswered: int = 0
    unreachable: int = 0
    seconds: float = 0.0
    took: list[tuple[float, float]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> str:
        """All that is no right answer, in words; empty if there is nothing."""
        parts = {
            "statuses": dict(self.statuses),
            "such as": self.wrong[:3],
            "broken": len(self.broken),
            "unanswered": self.unanswered,
            "unreachable": self.unreachable,
        }
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


class Load:
    """A closed loop in a thread of its own. A context manager: its end is the clients' end."""

    def __init__(
        self,
        url: str,
        asked: Sequence[Question],
        clients: int,
        *,
        per_connection: int = 1_000_000,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            url: of the service.
            asked: the requests, taken in turn by each client.
            clients: how many wait for an answer at any time.
            per_connection: requests after which a client opens another connection.
            patience: seconds after which an answer counts as lost.
        """
        self.tally = Tally()
        self._per_connection = per_connection
        self._patience = patience
        self._where = where(url)
        self._asked = asked
        self._clients = clients
        self._ended = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        while not self._ended:
            try:
                reader, writer = await asyncio.open_connection(*self._where)
            except OSError:
                self.tally.unreachable += 1
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            try:
                number = await self._talk(reader, writer, number)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> int:
        """Ask on one connection until it ends; the number of the next question."""
        port = writer.get_extra_info("sockname")[1]
        was_away = False
        for _ in range(self._per_connection):
            if self._ended:
                break
            question = self._asked[number % len(self._asked)]
            number += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    writer.write(question.data)
                    status, body, closes = await read_answer(reader)
            except TimeoutError:
                self.tally.unanswered += 1
                return number
            except (OSError, asyncio.IncompleteReadError):
                if not was_away:
                    self.tally.broken.append(port)
                return number
            took = time.monotonic() - began
            was_away = took > IDLE_SECONDS
            self.tally.seconds = max(self.tally.seconds, took)
            self.tally.took.append((took, began + took))
            self._judge(question, status, body)
            if closes:
                break
        return number

    def _judge(self, question: Question, status: int, body: bytes) -> None:
        if status == question.status and self._is_right(question, body):
            self.tally.right += 1
            return
        self.tally.statuses[status] += 1
        if len(self.tally.wrong) < 10:
            self.tally.wrong.append(f"{status} {body[:200]!r}")

    def _is_right(self, question: Question, body: bytes) -> bool:
        if question.status != 200:
            return True
        answer = json.loads(body)
        if question.by_version:
            version = answer["model"]["version"]
            self.tally.versions[version] += 1
            return same(scores(answer), question.by_version[version])
        parts = [part["prediction"] for part in answer.get("results", ())] or [answer]
        return len(parts) == len(question.expected) and all(
            part and same(scores(part), expected)
            for part, expected in zip(parts, question.expected, strict=True)
        )
