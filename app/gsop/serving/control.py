"""How a front has the supervisor change something: a line of JSON there, a line of JSON back.

The supervisor alone writes what is loaded and how requests are spread, so the fronts only pass on
what their callers ask for. Orders are rare and may take minutes; each has a connection and a thread
of its own.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, Union, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gsop.arena.messages import connect, is_own, listen
from gsop.errors import GSoPError, NotReady, error_of
from gsop.serving.sharing import Find, Others, Sharing
from gsop.serving.traffic import Traffic
from gsop.serving.versions import Versions

log = logging.getLogger("gsop.supervisor")

MOST_BYTES = 1 << 16
MOST_ANSWER_BYTES = 1 << 24


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    who: str


class Load(_Order):
    """Load a version; see :meth:`Versions.load`."""

    do: Literal["load"] = "load"
    version: str
    unload_first: bool = False
    sha256: str | None = None

    def obey(self, versions: Versions) -> BaseModel:
        """Have it done."""
        return versions.load(
            self.name,
            self.version,
            who=self.who,
            unload_first=self.unload_first,
            sha256=self.sha256,
        )


class Unload(_Order):
    """Unload a version; see :meth:`Versions.unload`."""

    do: Literal["unload"] = "unload"
    version: str
    force: bool = False

    def obey(self, versions: Versions) -> BaseModel:
        """Have it done."""
        return versions.unload(self.name, self.version, who=self.who, force=self.force)


class SetTraffic(_Order):
    """Change shares; see :meth:`ShareControl.set`."""

    do: Literal["traffic"] = "traffic"
    traffic: Traffic
    revision: int | None = None

    def obey(self, versions: Versions) -> BaseModel:
        """Have it done."""
        shares = versions.shares.set(self.name, self.traffic, who=self.who, revision=self.revision)
        return SharesNow(**shares._asdict())


class Promote(_Order):
    """Promote the canary; see :meth:`ShareControl.promote`."""

    do: Literal["promote"] = "promote"
    revision: int | None = None

    def obey(self, versions: Versions) -> BaseModel:
        """Have it done."""
        shares = versions.shares.promote(self.name, who=self.who, revision=self.revision)
        return SharesNow(**shares._asdict())


class Rollback(_Order):
    """Go back; see :meth:`ShareControl.rollback`."""

    do: Literal["rollback"] = "rollback"
    revision: int | None = None

    def obey(self, versions: Versions) -> BaseModel:
        """Have it done."""
        shares = versions.shares.rollback(self.name, who=self.who, revision=self.revision)
        return SharesNow(**shares._asdict())


Order = Annotated[
    Union[Load, Unload, SetTraffic, Promote, Rollback, Find, Others],  # noqa: UP007  # pydantic reads it
    Field(discriminator="do"),
]
_ORDERS: TypeAdapter[Load | Unload | SetTraffic | Promote | Rollback | Find | Others] = TypeAdapter(
    Order
)


class SharesNow(BaseModel):
    """A model's shares after a change; see :class:`~gsop.serving.traffic.Shares`."""

    revision: int
    run: int
    traffic: Traffic


class ControlServer:
    """Takes orders in the supervisor. A context manager.

    Args:
        address: where.
        versions: what is changed.
        sharing: what is asked for other instances' answers, if there are others.
    """

    def __init__(self, address: str, versions: Versions, sharing: Sharing | None = None) -> None:
        self._versions = versions
        self._sharing = sharing
        self._listener = listen(address)
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def __enter__(self) -> "ControlServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), name="order", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if not is_own(connection):
                log.error("refused an order of another user's process")
                return
            with connection.makefile("rb") as lines:
                answer = self._obey(lines.readline(MOST_BYTES))
            connection.sendall(orjson.dumps(answer) + b"\n")

    def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            order = _ORDERS.validate_json(line)
            return {"done": self._done(order).model_dump(mode="json")}
        except GSoPError as error:
            return {"error": error.code, "text": str(error)}
        except Exception:  # a defect: whoever asked is told, and the next order is taken
            log.exception("an order ran into a defect")
            return {"error": GSoPError.code, "text": "the change ran into a defect; see the log"}

    def _done(self, order: Any) -> BaseModel:
        if not isinstance(order, Find | Others):
            return cast("BaseModel", order.obey(self._versions))
        if self._sharing is None:
            raise NotReady("nothing is shared with other instances")
        return order.obey(self._sharing)


async def send_order(address: str, order: BaseModel) -> Mapping[str, Any]:
    """Have the supervisor do something; what it answers.

    Raises:
        GSoPError: whatever it raised.
        NotReady: if it is gone.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(
            sock=connect(address), limit=MOST_ANSWER_BYTES
        )
        try:
            writer.write(order.model_dump_json().encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        finally:
            writer.close()
        answer = orjson.loads(line)
    except (OSError, ValueError) as error:
        raise NotReady("the supervisor does not answer; try again", retry_after=5) from error
    if "done" in answer:
        done: Mapping[str, Any] = answer["done"]
        return done
    kind: Callable[[str], GSoPError] = error_of(answer["error"])
    raise kind(answer["text"])
