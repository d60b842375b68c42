"""Two instances and what they share, which may be away."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support import Server, eventually, random_pngs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="apt-get install redis-server"),
]

IMAGES = random_pngs(5)


class Store:
    """A Redis on a socket of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        self._process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self.path.exists)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def has_samples(server: Server, count: int) -> bool:
    return bool(server.http.get("/attention").json()["samples"] == count)


def test_each_finds_what_the_other_made_as_long_as_the_store_is_there(
    tiny_store: Path, store: Store
) -> None:
    settings = {"models": "tiny", "shared_url": store.url, "shared_seconds": 60}
    with Server(tiny_store, **settings) as one, Server(tiny_store, **settings) as other:
        one.wait_ready()
        other.wait_ready()
        made = [one.predict(image)["id"] for image in IMAGES[:3]]
        made += [other.predict(image)["id"] for image in IMAGES[3:]]
        for server in (one, other):
            eventually(partial(has_samples, server, 5))
            assert server.http.get("/attention").json()["instances"] == 2
            for id_ in made:
                assert eventually(partial(found, server, id_))["id"] == id_
        assert found(one, made[0]) == found(other, made[0])
        both = [server.http.get("/attention").json()["stages"] for server in (one, other)]
        assert both[0][0]["mean"] == pytest.approx(both[1][0]["mean"])

        store.kill()
        apart = one.predict(IMAGES[0])["id"]
        assert found(one, apart)
        eventually(lambda: "this instance goes on alone" in "".join(other.log))
        answer = other.http.get(f"/attention/{apart}")
        assert answer.status_code == 404
        assert "what instances share is away" in answer.json()["detail"]
        assert has_samples(other, 2)
        assert other.predict(IMAGES[0])["id"]

        store.start()
        eventually(lambda: "answers again" in "".join(one.log))
        again = one.predict(IMAGES[1])["id"]
        assert eventually(lambda: found(other, again), 60)["id"] == again


def found(server: Server, id_: str) -> dict[str, object]:
    """The record, or nothing."""
    answer = server.http.get(f"/attention/{id_}")
    return answer.json() if answer.status_code == 200 else {}
