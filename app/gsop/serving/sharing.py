"""What several instances know of each other's answers, by way of a Redis or Valkey that they share.

A thread of the supervisor asks the engines every second for what is new, and writes it there; what
others have written it keeps at hand. Fronts ask it over the supervisor's socket. No request waits
for any of that: where the store is away, each instance goes on alone, and says so.

    gsop:record:<id>                          one prediction, for a time
    gsop:statistics:<name>/<version>/<sha>    a field for each instance

:mod:`gsop.serving.rates` has its own, where rates of keys are shared too.
"""

import base64
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field

from gsop.arena.messages import ask_blocking
from gsop.errors import ConfigError
from gsop.gates.queries import NewestQuery, Query, StatisticsQuery, ask
from gsop.gates.statistics import GateStatistics
from gsop.serving.rates import Rates
from gsop.settings import Settings
from gsop.store.manifest import Manifest

if TYPE_CHECKING:
    from redis import Redis

    from gsop.serving.supervisor import Supervisor

log = logging.getLogger("gsop.supervisor")

LOOK_SECONDS = 1.0
"""How often engines are asked for what is new."""

MOST_RECORDS, MOST_BYTES = 500, 1 << 22
"""Of a version, an engine and a look; the bytes as engines tell them, eight a value. Of more the
newest: nobody waits for the store."""

MOST_RECORD, MOST_TOLD, MOST_RECENT = 1 << 23, 1 << 25, 1000
"""Bytes of a record, and of what an instance tells of a version, and predictions in that: whoever
can write to the store can write anything, and more is nothing that an instance wrote."""

MOST_STRANGE = 100
"""So many things in the store that nobody should have written are complained about."""

ENGINE_SECONDS = 2.0
STORE_SECONDS = 1.0
"""How long an engine, and the store, may take to answer."""

MOST_PAUSE_SECONDS = 30.0
"""After errors of the store it is asked less and less often, but never less often than so."""


class Find(BaseModel):
    """Ask for another instance's prediction; see :meth:`Sharing.find`."""

    model_config = ConfigDict(frozen=True)

    do: Literal["find"] = "find"
    id: str
    caller: int | None = None

    def obey(self, sharing: "Sharing") -> BaseModel:
        """Have it found."""
        return sharing.find(self.id, self.caller)


class Others(BaseModel):
    """Ask for other instances' statistics; see :meth:`Sharing.others`."""

    model_config = ConfigDict(frozen=True)

    do: Literal["others"] = "others"
    version: str

    def obey(self, sharing: "Sharing") -> BaseModel:
        """Have them told."""
        return sharing.others(self.version)


Moment = Annotated[float, Field(ge=0, lt=253_402_300_800)]
"""Unix time, of years that have four digits."""


class Found(BaseModel):
    """Another instance's prediction.

    Attributes:
        version: ``name/version/sha256`` of what made it; empty if it was not found.
        values: the answer, float32, base64.
        reached: whether the store answered.
    """

    version: Annotated[str, Field(pattern="^([^/]+/[^/]+/[^/]+)?$")] = ""
    time: Moment = 0.0
    top_k: Annotated[int, Field(ge=0)] = 0
    values: str = ""
    reached: bool = True


class _Seen(BaseModel):
    """One of the newest predictions that another instance tells of."""

    id: Annotated[str, Field(max_length=64)]
    time: Moment
    class_id: Annotated[int, Field(ge=0)]
    probability: Annotated[float, Field(allow_inf_nan=False)]


class OthersSeen(BaseModel):
    """Other instances' statistics of one version, as they were a moment ago.

    Attributes:
        instances: how many others there are.
        samples: of all of them together.
        since: Unix time from which on they count.
        sums: as in :class:`~gsop.gates.statistics.GateStatistics`, base64; empty without samples.
        recent: their newest predictions.
    """

    instances: int = 0
    samples: int = 0
    since: float = 0.0
    sums: str = ""
    recent: list[dict[str, Any]] = []


class _Head(BaseModel):
    """What one instance has told of one version, but for the sums."""

    samples: Annotated[int, Field(ge=0, lt=1 << 53)]
    since: Moment
    recent: Annotated[list[_Seen], Field(max_length=MOST_RECENT)]
    told: Moment


@dataclass
class _Told:
    """What one instance has told of one version."""

    samples: int
    since: float
    recent: list[dict[str, Any]]
    sums: npt.NDArray[np.float64]

    def pack(self) -> bytes:
        """As :meth:`read` reads it."""
        meta = {
            "samples": self.samples,
            "since": self.since,
            "recent": self.recent,
            "told": time.time(),
        }
        return orjson.dumps(meta) + b"\n" + self.sums.astype(np.float64).tobytes()

    @classmethod
    def read(cls, data: bytes, manifest: Manifest, seconds: float) -> "_Told | None":
        """What was packed no longer ago than ``seconds``; ``None``: it was, but earlier.

        Raises:
            ValueError: if it is not what an instance tells of that version.
        """
        if len(data) > MOST_TOLD:
            raise ValueError("it is too long")
        line, _, tail = data.partition(b"\n")
        head = _Head.model_validate_json(line)
        age = time.time() - head.told
        if age > seconds:
            return None
        if age < -seconds:
            raise ValueError("it is of the future")
        sums = np.frombuffer(tail, np.float64).reshape(4, manifest.answer.gate_size)
        if head.samples and not np.isfinite(sums).all():
            raise ValueError("a sum is no number")
        if any(seen.class_id >= len(manifest.labels) for seen in head.recent):
            raise ValueError("there is no such class")
        recent = [seen.model_dump() for seen in head.recent]
        return cls(head.samples, head.since, recent, sums)


class Sharing:
    """Tells others and hears of them. A context manager, in the supervisor.

    Args:
        supervisor: whose engines are asked.
        settings: with the store's address.

    Raises:
        ConfigError: if there is no such address, or the client is not installed.
    """

    def __init__(self, supervisor: "Supervisor", settings: Settings) -> None:
        self._supervisor = supervisor
        self._mark = supervisor.memory.settings.replica_mark  # given at the start, if by nobody
        self._seconds = settings.shared_seconds
        self._store = _connected(settings.shared_url)
        is_limited = settings.rate_shared and settings.rate_per_key > 0
        self._rates = (
            Rates(supervisor.memory, supervisor.keeper, self._store) if is_limited else None
        )
        self._after: dict[tuple[str, int], int] = {}
        self._others: dict[str, OthersSeen] = {}
        self._reached = True
        self._strange: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)

    def __enter__(self) -> "Sharing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(ENGINE_SECONDS)

    # ── what fronts ask ──────────────────────────────────────────────────────────────────────────

    def find(self, id_: str, caller: int | None) -> Found:
        """A prediction of another instance; that caller's only, if one is given."""
        if not self._reached:
            return Found(reached=False)
        try:
            data = self._store.getrange(f"gsop:record:{id_}", 0, MOST_RECORD - 1)
        except _errors() as error:
            log.warning("the shared store does not answer: %s", error)
            return Found(reached=False)
        if not isinstance(data, bytes) or not data:
            return Found()
        head, _, values = data.partition(b"\n")
        try:
            meta = orjson.loads(head)
            owner = meta.pop("owner")
            found = Found(values=base64.b64encode(values).decode(), **meta)
        except (ValueError, TypeError, AttributeError, KeyError):  # of none of ours
            self._complain("a prediction")
            return Found()
        if caller is not None and owner != self._supervisor.keeper.digest(caller):
            return Found()
        return found

    def others(self, version: str) -> OthersSeen:
        """What is at hand of other instances' statistics of ``name/version/sha256``."""
        return self._others.get(version, OthersSeen())

    # ── the thread ───────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._ended.wait(pause):
            try:
                self._look()
            except _errors() as error:
                if self._reached:
                    log.error(
                        "the shared store does not answer (%s): this instance goes on alone", error
                    )
                self._reached, self._others = False, {}
                if self._rates is not None:
                    self._rates.stand_alone()
                pause = min(2 * pause, MOST_PAUSE_SECONDS)
            except Exception:  # a defect must not end it for good
                log.exception("what is new was not shared")
            else:
                if not self._reached:
                    log.info("the shared store answers again")
                self._reached, pause = True, LOOK_SECONDS

    def _look(self) -> None:
        if self._rates is not None:
            self._rates.exchange(time.time())
        deployment = self._supervisor.present.deployment
        for index, manifest in enumerate(deployment.manifests):
            version = version_of(manifest)
            told = _Told(0, time.time(), [], GateStatistics.empty(manifest.answer.gate_size).sums)
            total = GateStatistics(0, told.sums)
            for engine in range(deployment.engines):
                address = deployment.engine_address(engine)
                with suppress(OSError):  # it is being replaced, or busy
                    self._share_records(address, index, manifest, (version, engine))
                    meta, sums = _asked(address, StatisticsQuery(index))
                    total.merge(StatisticsQuery.read(meta, sums))
                    told.since = min(told.since, meta["since"])
                    told.recent += meta["recent"]
            told.samples = total.samples
            self._exchange(manifest, told)

    def _share_records(
        self, address: str, index: int, manifest: Manifest, key: tuple[str, int]
    ) -> None:
        width = manifest.answer.width
        most = max(1, min(MOST_RECORDS, MOST_BYTES // (8 * width)))
        query = NewestQuery(index, self._after.get(key, 0), most)
        meta, values = _asked(address, query)
        records, after = query.read(meta, values, width)
        pipe = self._store.pipeline(transaction=False)
        for record, caller in records:
            meta = {
                "version": key[0],
                "time": record.time,
                "top_k": record.top_k,
                "owner": self._supervisor.keeper.digest(caller),
            }
            data = orjson.dumps(meta) + b"\n" + record.values.astype(np.float32).tobytes()
            pipe.set(f"gsop:record:{record.id}", data, ex=self._seconds)
        pipe.execute()
        self._after[key] = after  # what the store did not take is offered again

    def _exchange(self, manifest: Manifest, told: _Told) -> None:
        """Tell what this instance has counted, and hear what others have."""
        version = version_of(manifest)
        name = f"gsop:statistics:{version}"
        pipe = self._store.pipeline(transaction=False)
        pipe.hset(name, self._mark, told.pack())
        pipe.expire(name, self._seconds)
        pipe.hgetall(name)
        fields: Mapping[bytes, bytes] = pipe.execute()[-1]
        seen = OthersSeen(since=time.time())
        total = GateStatistics.empty(told.sums.shape[1])
        for mark, data in fields.items():
            if mark == self._mark.encode():
                continue
            try:
                other = _Told.read(data, manifest, self._seconds)
            except ValueError:  # of another release, or of nobody who should write there
                self._complain(f"{name!r}, field {mark[:64]!r}")
                continue
            if other is None:
                self._store.hdel(name, mark)
            else:
                seen.instances += 1
                seen.since = min(seen.since, other.since)
                seen.recent += other.recent
                total.merge(GateStatistics(other.samples, np.array(other.sums)))
        seen.samples = total.samples
        seen.sums = base64.b64encode(total.sums.tobytes()).decode() if total.samples else ""
        self._others = {**self._others, version: seen}

    def _complain(self, what: str) -> None:
        """Say once that something there is not what an instance writes."""
        if what not in self._strange and len(self._strange) < MOST_STRANGE:
            self._strange.add(what)
            log.warning(
                "%s in the shared store is nothing that an instance of this release writes: it is "
                "passed over; look at who else writes there",
                what,
            )


def version_of(manifest: Manifest) -> str:
    """What tells a version from another instance's of the same name."""
    return f"{manifest.name}/{manifest.version}/{manifest.sha256}"


def _asked(address: str, query: Query) -> Any:
    return ask_blocking(address, ask(query), ENGINE_SECONDS)


def _errors() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError,)


def _connected(url: str) -> "Redis":
    try:
        from redis import Redis
    except ImportError as error:
        raise ConfigError(
            "GSOP_SHARED_URL needs a client: install the extra `shared` (pip install '.[shared]')"
        ) from error
    try:
        return Redis.from_url(
            url, socket_timeout=STORE_SECONDS, socket_connect_timeout=STORE_SECONDS
        )
    except ValueError as error:
        raise ConfigError(f"GSOP_SHARED_URL is no address of a store: {error}") from None
