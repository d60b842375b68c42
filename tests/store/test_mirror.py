"""What comes out of a remote store: what its index says, or nothing."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsop.errors import ConfigError, StoreError, StoreUnreachable
from gsop.store import mirror as mirrors
from gsop.store.index import Entry, Index, StoredFile
from gsop.store.manifest import MANIFEST_FILE, WEIGHTS_FILE
from gsop.store.mirror import Mirror
from gsop.store.push import push
from gsop.store.remote import Remote
from gsop.store.store import verify
from tests.store.bucket import MUCH, Bucket, served_bucket
from tests.store.conftest import Publish

ADDRESS = "s3://models/shop"
WEIGHTS = f"shop/tiny/1/{WEIGHTS_FILE}"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with served_bucket() as made:
        yield made


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small pieces, and no pauses."""
    monkeypatch.setattr(mirrors, "PIECE", 20_000)
    monkeypatch.setattr(mirrors, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(mirrors, "FRESH_SECONDS", 0.0)


@pytest.fixture
def pushed(bucket: Bucket, folder: Path) -> Path:
    """The version, published to the bucket."""
    push(folder, Remote(ADDRESS))
    return folder


def copy_in(folder: Path, address: str = ADDRESS, *, most_bytes: int = 0) -> Mirror:
    return Mirror(folder, Remote(address), most_bytes=most_bytes)


def check_same(found: Path, published: Path) -> None:
    for file in published.iterdir():
        assert (found / file.name).read_bytes() == file.read_bytes()
    verify(found)


# ── what goes well ───────────────────────────────────────────────────────────────────────────────


def test_a_version_comes_whole_and_once(bucket: Bucket, pushed: Path, tmp_path: Path) -> None:
    found = copy_in(tmp_path).fetch("tiny", "1")
    check_same(found, pushed)
    pieces = bucket.asked["GET", WEIGHTS]
    assert pieces > 3
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)
    assert bucket.asked["GET", WEIGHTS] == pieces
    assert not list(tmp_path.glob(".remote/*.part"))


def test_files_behind_http_are_read_and_never_written(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    remote = Remote(f"{bucket.endpoint}/models/shop")
    check_same(Mirror(tmp_path, remote).fetch("tiny", "1"), pushed)
    with pytest.raises(StoreError, match="can only be read"):
        remote.create("index.json", b"")


def test_a_transfer_that_broke_off_is_gone_on_with(
    bucket: Bucket, pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "TRIES", 1)
    calls = 0

    def stop_at_the_third(path: str) -> None:
        nonlocal calls
        calls += path == WEIGHTS
        if calls == 3:
            bucket.failing = 10

    bucket.on_get = stop_at_the_third
    with pytest.raises(StoreUnreachable):
        copy_in(tmp_path).fetch("tiny", "1")
    assert not (tmp_path / "tiny").exists()
    (part,) = tmp_path.glob(".remote/*.part")
    assert part.stat().st_size == 60_000
    bucket.failing, bucket.on_get = 0, lambda path: None
    before = bucket.asked["GET", WEIGHTS]
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)
    size = (pushed / WEIGHTS_FILE).stat().st_size
    assert bucket.asked["GET", WEIGHTS] - before == -(-(size - 60_000) // 20_000)


@pytest.mark.parametrize("fault", ["torn", "failing"])
def test_what_breaks_now_and_then_comes_all_the_same(
    bucket: Bucket, pushed: Path, tmp_path: Path, fault: str
) -> None:
    setattr(bucket, fault, 3)
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)
    assert getattr(bucket, fault) == 0


def test_an_object_that_changes_and_changes_back_is_fetched_anew(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    right = bucket.objects[WEIGHTS]
    others = iter([right, right[::-1], right])

    def change(path: str) -> None:
        if path == WEIGHTS:
            bucket.objects[WEIGHTS] = next(others, right)

    bucket.on_get = change
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)


def test_of_several_who_want_it_one_fetches(bucket: Bucket, pushed: Path, tmp_path: Path) -> None:
    found: list[Path] = []
    racers = [
        threading.Thread(target=lambda: found.append(copy_in(tmp_path).fetch("tiny", "1")))
        for _ in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(found) == 4
    size = (pushed / WEIGHTS_FILE).stat().st_size
    assert bucket.asked["GET", WEIGHTS] == -(-size // 20_000)
    check_same(found[0], pushed)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def test_wrong_bytes_are_refused_and_not_fetched_again(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    bucket.objects[WEIGHTS] = bytes(reversed(bucket.objects[WEIGHTS]))
    mirror = copy_in(tmp_path)
    with pytest.raises(StoreError, match="is not what its index says"):
        mirror.fetch("tiny", "1")
    assert not (tmp_path / "tiny").exists()
    assert not list(tmp_path.glob(".remote/*.part"))
    pieces = bucket.asked["GET", WEIGHTS]
    with pytest.raises(StoreError, match="publish it under a new version"):
        mirror.fetch("tiny", "1")
    assert bucket.asked["GET", WEIGHTS] == pieces


def test_a_file_that_is_shorter_than_it_should_be_is_refused(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    bucket.objects[WEIGHTS] = bucket.objects[WEIGHTS][:-1]
    with pytest.raises(StoreUnreachable):
        copy_in(tmp_path).fetch("tiny", "1")
    assert not (tmp_path / "tiny").exists()


def test_an_object_that_changes_all_the_time_is_given_up(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    right = bucket.objects[WEIGHTS]
    count = 0

    def change(path: str) -> None:
        nonlocal count
        count += 1
        bucket.objects[WEIGHTS] = right + bytes([count])

    bucket.on_get = change
    with pytest.raises(StoreUnreachable, match="changes while it is fetched"):
        copy_in(tmp_path).fetch("tiny", "1")


def test_more_than_was_asked_for_is_cut_off(bucket: Bucket, pushed: Path, tmp_path: Path) -> None:
    bucket.endless = True
    with pytest.raises(StoreUnreachable, match="more bytes come"):
        Remote(ADDRESS).read(f"tiny/1/{WEIGHTS_FILE}", 0, 100)
    assert bucket.sent < MUCH
    with pytest.raises(StoreUnreachable):
        copy_in(tmp_path).fetch("tiny", "1")
    assert not (tmp_path / "tiny").exists()


def test_weights_of_another_version_are_refused(
    bucket: Bucket, pushed: Path, tmp_path: Path, publish_tiny: Publish
) -> None:
    """Each file has the digest that the index says, and together they are no version."""
    bucket.objects[WEIGHTS] = b"other weights"
    index = Index.parse(bucket.objects["shop/index.json"], "")
    files = dict(index.versions["tiny/1"].files)
    digest = hashlib.sha256(b"other weights").hexdigest()
    files["model.safetensors"] = StoredFile(sha256=digest, size=13)
    changed = index.joined_by("tiny/1", Entry(files=files))
    bucket.objects["shop/index.json"] = changed.write()
    with pytest.raises(StoreError, match="weights of another manifest"):
        copy_in(tmp_path).fetch("tiny", "1")
    assert not (tmp_path / "tiny").exists()


def test_a_version_that_the_index_does_not_name_is_not_fetched(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"holds no tiny/2; of tiny it holds 1"):
        copy_in(tmp_path).fetch("tiny", "2")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"format": 2}', b'{"versions": {"../a/1": {"files": {}}}}', b"x" * 9000000],
)
def test_an_index_that_is_none_is_refused(
    bucket: Bucket, pushed: Path, tmp_path: Path, text: bytes
) -> None:
    bucket.objects["shop/index.json"] = text
    with pytest.raises(StoreError):
        copy_in(tmp_path).index()


def test_a_pinned_index_is_the_only_one(
    bucket: Bucket, pushed: Path, tmp_path: Path, publish_tiny: Publish
) -> None:
    pin = hashlib.sha256(bucket.objects["shop/index.json"]).hexdigest()
    mirror = copy_in(tmp_path, f"{ADDRESS}#sha256={pin}")
    check_same(mirror.fetch("tiny", "1"), pushed)
    push(publish_tiny(version="2"), Remote(ADDRESS))
    with pytest.raises(StoreError, match="holds no tiny/2"):
        mirror.fetch("tiny", "2")
    check_same(mirror.fetch("tiny", "1"), pushed)
    with pytest.raises(StoreError, match="is another one than the pinned one"):
        copy_in(tmp_path / "new", f"{ADDRESS}#sha256={pin}").index()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://a/b", "is no address of a store"),
        ("s3:///b", "is no address of a store"),
        ("s3://a/b#v1", "which is no #sha256="),
        ("http://example.com/models", "use https://, or pin the index"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Remote(address)


# ── without the store ────────────────────────────────────────────────────────────────────────────


def test_what_was_fetched_is_there_without_the_store(
    bucket: Bucket, pushed: Path, tmp_path: Path
) -> None:
    copy_in(tmp_path).fetch("tiny", "1")
    bucket.failing = 10**6
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)
    with pytest.raises(StoreUnreachable, match="is not to be had"):
        copy_in(tmp_path / "another").fetch("tiny", "1")


def test_a_copy_that_was_damaged_is_replaced(bucket: Bucket, pushed: Path, tmp_path: Path) -> None:
    found = copy_in(tmp_path).fetch("tiny", "1")
    (found / WEIGHTS_FILE).write_bytes(b"damaged")
    bucket.failing = 10**6
    with pytest.raises(StoreUnreachable):
        copy_in(tmp_path).fetch("tiny", "1")
    bucket.failing = 0
    check_same(copy_in(tmp_path).fetch("tiny", "1"), pushed)
    assert not [path for path in (tmp_path / ".remote").iterdir() if path.is_dir()]


# ── room ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_nobody_holds_makes_room(
    bucket: Bucket, pushed: Path, tmp_path: Path, publish_tiny: Publish
) -> None:
    for version in ("2", "3"):
        push(publish_tiny(version=version), Remote(ADDRESS))
    size = sum(file.stat().st_size for file in pushed.iterdir())
    mirror = copy_in(tmp_path, most_bytes=int(2.5 * size))
    mirror.fetch("tiny", "1")
    mirror.fetch("tiny", "2")
    other = copy_in(tmp_path, most_bytes=int(2.5 * size))
    with pytest.raises(StoreError, match="there is no room"):
        other.fetch("tiny", "3")
    mirror.release("tiny", "2")
    other.fetch("tiny", "3")
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["1", "3"]


# ── publishing ───────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_published_over_another(
    bucket: Bucket, pushed: Path, root: Path, publish_tiny: Publish
) -> None:
    push(pushed, Remote(ADDRESS))  # the same once more is no harm
    before = dict(bucket.objects)
    manifest = (pushed / MANIFEST_FILE).read_text()
    (pushed / MANIFEST_FILE).write_text(manifest.replace('"b"', '"another label"'))
    with pytest.raises(StoreError, match="has tiny/1 already, and it is another one"):
        push(pushed, Remote(ADDRESS))
    del bucket.objects["shop/index.json"]
    with pytest.raises(StoreError, match="is there already, and another file"):
        push(pushed, Remote(ADDRESS))
    assert bucket.objects == {k: v for k, v in before.items() if k != "shop/index.json"}


def test_publishers_who_meet_all_get_into_the_index(
    bucket: Bucket, publish_tiny: Publish, tmp_path: Path
) -> None:
    folders = [publish_tiny(version=str(version)) for version in range(5)]
    threads = [threading.Thread(target=push, args=(each, Remote(ADDRESS))) for each in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copy_in(tmp_path).index().of("tiny") == ["0", "1", "2", "3", "4"]


def test_what_broke_off_is_not_seen_and_can_be_pushed_again(
    bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    bucket.objects[WEIGHTS] = (folder / WEIGHTS_FILE).read_bytes()
    with pytest.raises(StoreError, match=r"has no index\.json"):
        copy_in(tmp_path).index()
    push(folder, Remote(ADDRESS))
    check_same(copy_in(tmp_path).fetch("tiny", "1"), folder)
