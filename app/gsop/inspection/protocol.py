"""What fronts and the inspector say to each other: one question, one answer, a connection each.

Both are a JSON object and bytes: the question's are pixels, the answer's are what the client gets.
No torch, for fronts have none.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from gsop.arena.messages import connect
from gsop.errors import DeadlineExceeded, GSoPError, NotReady, Overloaded, error_of
from gsop.images import Pixels

HEADER = struct.Struct("<II")
"""Bytes of the JSON, and of what follows it."""

MOST_JSON, MOST_BYTES = 1 << 16, 1 << 30

BUSY = "busy"
"""The answer's ``error`` where the inspector is at work for somebody else."""

FORMS = ("application/json", "text/html", "application/x-npz")
"""The forms of an answer; the first is what is given where a client likes several alike."""


class Question(BaseModel):
    """What is asked about one image.

    Attributes:
        name: of the model.
        version: of it.
        sha256: of its weights, so that both speak of the same.
        form: one of :data:`FORMS`.
        gate: whose channels are switched one by one; ``None``: nobody's.
        top_k: classes to list.
        matrices: whether JSON holds the matrices too.
        images: 1, or 2 where the second one's gates are put in too.
        seconds: after which nobody waits for the answer any more.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    sha256: str
    form: str
    gate: str | None
    top_k: int
    matrices: bool
    images: Annotated[int, Field(ge=1, le=2)]
    seconds: float


@dataclass(frozen=True)
class Frame:
    """A question or an answer.

    Attributes:
        head: JSON members.
        body: bytes.
    """

    head: dict[str, Any]
    body: bytes = b""

    def encode(self) -> bytes:
        """As it is sent."""
        head = orjson.dumps(self.head)
        return HEADER.pack(len(head), len(self.body)) + head + self.body


async def ask(address: str, question: Question, images: list[Pixels]) -> bytes:
    """What the inspector answers.

    Args:
        address: at which it listens, or the supervisor for it.
        question: what is asked.
        images: one or two, as the version's input is.

    Raises:
        Overloaded: if it is at work for somebody else.
        NotReady: if it, or the supervisor, is gone.
        DeadlineExceeded: if it takes too long.
        GSoPError: what it says.
    """
    pixels = b"".join(np.ascontiguousarray(image).tobytes() for image in images)
    frame = Frame(question.model_dump(), pixels)
    try:
        async with asyncio.timeout(question.seconds):
            head, body = await _exchange(address, frame)
    except TimeoutError:
        raise DeadlineExceeded(
            "the inspection was not done in time: give it more with timeout_ms, ask for another "
            "gate or for none, or use gsop inspect"
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise NotReady("the inspector has ended; try again", retry_after=2) from error
    if head.get("error") == BUSY:
        raise Overloaded(
            "the inspector is at work on another image: try again, or use gsop inspect",
            retry_after=5,
        )
    if "error" in head:
        kind: type[GSoPError] = error_of(head["error"])
        raise kind(head["detail"])
    return body


async def _exchange(address: str, frame: Frame) -> tuple[dict[str, Any], bytes]:
    reader, writer = await asyncio.open_unix_connection(sock=connect(address))
    try:
        writer.write(frame.encode())
        await writer.drain()
        head, body = HEADER.unpack(await reader.readexactly(HEADER.size))
        if head > MOST_JSON or body > MOST_BYTES:
            raise ValueError("no answer of ours is as long")
        return orjson.loads(await reader.readexactly(head)), await reader.readexactly(body)
    finally:
        writer.close()
