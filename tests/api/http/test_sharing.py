"""Two instances and what they share, which may be away."""

import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from gsop.keys import make_key
from tests.background import Background
from tests.shared_store import Store
from tests.support import Server, eventually, random_pngs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="apt-get install redis-server"),
]

IMAGES = random_pngs(5)
PNG = {"Content-Type": "image/png"}
KEYS = {
    "audit": make_key("audit", ["admin"]),
    "lab": make_key("lab", ["predict", "attention"]),
    "rival": make_key("rival", ["predict", "attention"]),
    "late": make_key("late", ["predict", "attention"]),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("redis"))
    try:
        yield made
    finally:
        made.kill()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


class Load(Background):
    """Sends images to all servers in turn, and counts what failed."""

    def __init__(self, *servers: Server) -> None:
        super().__init__(self._send)
        self._servers = servers
        self.sent = self.failed = 0

    def _send(self) -> None:
        for server in self._servers:
            try:
                answer = httpx.post(
                    f"{server.url}/predict", content=IMAGES[0], headers=PNG | bearer("audit")
                )
                self.failed += answer.status_code != 200
            except httpx.HTTPError:
                self.failed += 1
            self.sent += 1


@pytest.fixture(scope="module")
def servers(tiny_store: Path, store: Store, keys: Path) -> Iterator[tuple[Server, Server]]:
    """The keys have other numbers in each."""
    settings = {
        "models": "tiny",
        "shared_url": store.url,
        "shared_seconds": 60,
        "rate_per_key": 100_000,
        "rate_shared": True,
    }
    given = ",".join(str(KEYS[name][1]) for name in ("rival", "lab", "late", "audit"))
    with (
        Server(tiny_store, **settings, api_keys_file=keys) as one,
        Server(tiny_store, **settings, api_keys=given) as other,
    ):
        for server in (one, other):
            server.http.headers.update(bearer("audit"))
            server.wait_ready()
        yield one, other


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(str(KEYS[name][1]) for name in ("audit", "lab", "rival")))
    return file


def samples(server: Server) -> int:
    return int(server.http.get("/attention").json()["samples"])


def have_samples(servers: tuple[Server, Server], count: int) -> bool:
    return [samples(server) for server in servers] == [count] * 2


def found(server: Server, id_: str, name: str = "audit") -> dict[str, object]:
    """The record, or nothing."""
    answer = server.http.get(f"/attention/{id_}", headers=bearer(name))
    return answer.json() if answer.status_code == 200 else {}


def predict(server: Server, name: str) -> str:
    answer = server.http.post("/predict", content=IMAGES[0], headers=PNG | bearer(name))
    return str(answer.json()["id"])


def test_each_finds_what_the_other_made_and_counts_it(
    servers: tuple[Server, Server], store: Store
) -> None:
    one, other = servers
    made = [one.predict(image)["id"] for image in IMAGES[:3]]
    made += [other.predict(image)["id"] for image in IMAGES[3:]]
    eventually(partial(have_samples, servers, 5))
    for server in servers:
        assert server.http.get("/attention").json()["instances"] == 2
        for id_ in made:
            assert eventually(partial(found, server, id_))["id"] == id_
    with Redis.from_url(store.url) as asked:  # how often keys came is told there as well
        assert eventually(lambda: asked.keys("gsop:asked:*"))
    assert found(one, made[0]) == found(other, made[0])
    both = [server.http.get("/attention").json()["stages"] for server in servers]
    assert both[0][0]["mean"] == pytest.approx(both[1][0]["mean"])


def test_a_record_stays_its_keys_also_of_one_that_came_later(
    servers: tuple[Server, Server], keys: Path
) -> None:
    one, other = servers
    before = samples(one)
    new = keys.with_name("new")
    new.write_text("\n".join(str(entry) for _, entry in KEYS.values()))
    new.replace(keys)
    eventually(lambda: one.http.get("/models", headers=bearer("late")).status_code == 200)
    made = {name: predict(one, name) for name in ("lab", "late")}
    eventually(partial(have_samples, servers, before + 2))
    for name, id_ in made.items():
        eventually(partial(found, other, id_, name))
        assert found(other, id_, "audit")
        assert not found(other, id_, "rival")


def told(**members: object) -> bytes:
    """What an instance could tell of one prediction, and of sums of another network."""
    head = {"samples": 1, "since": 1.0, "recent": [], "told": time.time()} | members
    return json.dumps(head).encode() + b"\n" + bytes(32)


def test_what_nobody_should_have_written_is_passed_over(
    servers: tuple[Server, Server], store: Store
) -> None:
    one, _ = servers
    before = samples(one)
    with Redis.from_url(store.url) as there:
        (name,) = there.keys("gsop:statistics:*")
        version = name.decode().removeprefix("gsop:statistics:")
        bad = {
            "text": b"no JSON",
            "list": b"[]\n",
            "shape": told(),
            "count": told(samples="many"),
            "recent": told(recent=[{"class_id": 10**9}]),
            "moment": told(since=1e300),
            "future": told(told=time.time() + 10**6),
        }
        there.hset(name, mapping=cast("Any", bad))
        head = {"version": version, "time": 1.0, "top_k": 1, "owner": ""}
        records = {
            "abcdef.text": b"no JSON",
            "abcdef.list": b"[]\n",
            "abcdef.version": json.dumps(head | {"version": "tiny"}).encode() + b"\n",
            "abcdef.moment": json.dumps(head | {"time": 1e300}).encode() + b"\n",
            "abcdef.values": json.dumps(head).encode() + b"\n123",
        }
        for id_, data in records.items():
            there.set(f"gsop:record:{id_}", data)
        made = [predict(server, "audit") for server in servers]
        eventually(partial(have_samples, servers, before + len(made)))
        assert one.http.get("/attention").json()["instances"] == 2
        for id_ in records:
            assert one.http.get(f"/attention/{id_}").status_code == 404
        assert eventually(partial(found, one, made[1]))
        there.hdel(name, *bad)
    complaints = [line for line in one.log if "is nothing that an instance" in line]
    assert len(complaints) == len(bad) + 1
    assert not any("defect" in line for line in one.log)


def test_without_the_store_each_goes_on_alone(servers: tuple[Server, Server], store: Store) -> None:
    one, other = servers
    with Load(one, other) as load:
        store.kill()
        apart = predict(one, "audit")
        assert found(one, apart)
        for server in servers:
            eventually(lambda: "this instance goes on alone" in "".join(server.log))  # noqa: B023
        answer = other.http.get(f"/attention/{apart}")
        assert answer.status_code == 404
        assert "what instances share is away" in answer.json()["detail"]
        assert other.http.get("/attention").json()["instances"] == 1
        store.start()
        for server in servers:
            eventually(lambda: "answers again" in "".join(server.log))  # noqa: B023
    assert load.sent > 20
    assert load.failed == 0
    # What was made meanwhile was kept for it.
    assert eventually(partial(found, other, apart))["id"] == apart
    eventually(lambda: samples(one) == samples(other) > load.sent)
