"""A service whose models lie in a bucket that is not always there, and not always right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gsop.store.manifest import WEIGHTS_FILE
from gsop.store.push import push
from gsop.store.remote import Remote
from tests.store.bucket import Bucket, served_bucket
from tests.stores import publish_tiny
from tests.support import Server, eventually, in_background, random_pngs, send_all

pytestmark = pytest.mark.slow

ADDRESS = "s3://models/shop"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with served_bucket() as made:
        yield made


def pushed(folder: Path, version: str) -> None:
    push(publish_tiny(folder, version=version, seed=int(version)), Remote(ADDRESS))


def stable(server: Server) -> str:
    return str(server.http.get("/models/tiny").json()["traffic"]["stable"])


def test_new_versions_come_bad_ones_do_not_and_an_outage_changes_nothing(
    bucket: Bucket, tmp_path: Path
) -> None:
    pushed(tmp_path, "1")
    settings = {"models": "tiny", "remote_store": ADDRESS, "follow": True, "remote_seconds": 1}
    copy = tmp_path / "copy"
    with Server(copy, **settings) as server:
        server.wait_ready()
        join = in_background(send_all(server.url, random_pngs(4), clients=4, requests=200))
        pushed(tmp_path, "2")
        eventually(lambda: stable(server) == "2", 60)
        assert {answer.status_code for _, answer in join()} == {200}

        weights = f"shop/tiny/3/{WEIGHTS_FILE}"

        def spoil(path: str) -> None:
            if path == weights:
                bucket.objects[weights] = b"something else"

        bucket.on_get = spoil
        pushed(tmp_path, "3")
        eventually(
            lambda: "tiny/3" in "".join(server.log) and "not followed" in "".join(server.log)
        )
        assert stable(server) == "2"

        bucket.failing = 10**9
        answer = server.http.post("/models/tiny/versions/1/load")  # fetched before
        assert answer.status_code == 200, answer.text
        assert server.http.post("/models/tiny/versions/9/load").status_code == 404
        assert server.predict(random_pngs(1)[0])["model"]["version"] == "2"
    with Server(copy, **settings) as server:
        server.wait_ready()
        assert server.predict(random_pngs(1)[0])["model"]["version"] == "2"
        assert "the models that are known are served on" in "".join(server.log)


def test_without_the_store_and_without_a_copy_it_says_why(bucket: Bucket, tmp_path: Path) -> None:
    bucket.failing = 10**9
    status, log = Server(tmp_path, models="tiny", remote_store=ADDRESS).run_to_end()
    assert status == 1
    assert f"{ADDRESS}/index.json is not to be had" in log[-1]
