"""What the supervisor knows of versions, and how an operator changes shares; without processes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gsop.arena.bulletin import Bulletin
from gsop.arena.families import MOST_VERSIONS
from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import SupervisorBoard
from gsop.errors import Conflict, PreconditionFailed, UnknownModel
from gsop.serving.book import VersionBook
from gsop.serving.desired import DesiredFile
from gsop.serving.shares import ShareControl
from gsop.serving.status import MOST_CHANGES, ServiceStatus
from gsop.serving.traffic import Routing, Traffic
from gsop.store.manifest import Manifest
from tests.arena.conftest import manifest, plan


def version(name: str, number: int | str) -> Manifest:
    return manifest().model_copy(update={"name": name, "version": str(number)})


class Hands(NamedTuple):
    """A book, who changes shares, and what everybody reads."""

    book: VersionBook
    shares: ShareControl
    routing: Bulletin[Routing]
    status: Bulletin[ServiceStatus]

    def load(self, *manifests: Manifest) -> None:
        """Be told that these are loaded, too."""
        loaded = self.book.manifests | {(m.name, m.version): m for m in manifests}
        for key in loaded:
            self.book.place(key)
            self.book.enter(key, "ready")
        self.book.loaded(loaded, 2, 1000)


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    memory = ServiceMemory.create(plan())
    book = VersionBook(
        memory,
        SupervisorBoard(memory),
        [version("m", 1), version("n", 1)],
        DesiredFile(tmp_path / "state.json"),
    )
    routing = Bulletin(memory.view("traffic"), Routing.parse)
    made = Hands(
        book, ShareControl(book), routing, Bulletin(memory.view("versions"), ServiceStatus.parse)
    )
    made.load(version("m", 2), version("m", 3))
    yield made
    memory.close()


def canary(percent: float = 20) -> Traffic:
    return Traffic(stable="1", canary="2", percent=percent)


def test_it_begins_with_the_stable_versions(hands: Hands) -> None:
    routing = hands.routing.value
    assert routing.default == "m"
    assert {name: shares.traffic for name, shares in routing.models.items()} == {
        "m": Traffic(stable="1"),
        "n": Traffic(stable="1"),
    }


def test_a_change_is_told_and_remembered_and_kept(hands: Hands, tmp_path: Path) -> None:
    before = hands.routing.value.models["m"]
    now = hands.shares.set("m", canary(), who="ops", revision=before.revision)
    assert hands.routing.value.models["m"] == now
    assert now.revision == before.revision + 1
    status = hands.status.value
    assert (status.changes[0].who, status.changes[0].model) == ("ops", "m")
    assert status.kept
    kept = DesiredFile(tmp_path / "state.json").read()
    assert kept is not None
    assert kept.models["m"].traffic == canary()
    assert kept.models["m"].loaded == ("3",)


def test_of_two_who_look_at_the_same_one_is_told_to_look_again(hands: Hands) -> None:
    revision = hands.book.shares("m").revision
    results: list[object] = []

    def change(percent: float) -> None:
        try:
            results.append(hands.shares.set("m", canary(percent), who="x", revision=revision))
        except PreconditionFailed as error:
            results.append(error)

    threads = [threading.Thread(target=change, args=(p,)) for p in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, PreconditionFailed) for result in results) == 2


def test_only_loaded_versions_get_requests(hands: Hands) -> None:
    for traffic in (Traffic(stable="9"), Traffic(stable="1", shadow="9")):
        with pytest.raises(Conflict, match="m/9 is not loaded: POST /models/m/versions/9/load"):
            hands.shares.set("m", traffic, who="x")
    with pytest.raises(UnknownModel):
        hands.shares.set("other", Traffic(stable="1"), who="x")


def test_promoted_and_rolled_back(hands: Hands) -> None:
    with pytest.raises(Conflict, match="no canary"):
        hands.shares.promote("m", who="x")
    hands.shares.set("m", canary(), who="x")
    assert hands.shares.promote("m", who="x").traffic == Traffic(stable="2")
    assert hands.shares.rollback("m", who="x").traffic == Traffic(stable="1")
    hands.shares.set("m", canary(), who="x")
    taken = hands.shares.rollback("m", who="the service", reason="failures: many").traffic
    assert taken == Traffic(stable="1", canary="2"), "it stays, to be looked at"
    assert "failures: many" in hands.status.value.changes[0].what
    with pytest.raises(Conflict, match="nothing to go back to"):
        hands.shares.rollback("n", who="x")


def test_a_shadow_that_was_stable_before_comes_back_as_that(hands: Hands) -> None:
    hands.shares.set("m", canary(), who="x")
    hands.shares.promote("m", who="x")
    hands.shares.set("m", Traffic(stable="2", shadow="1"), who="x")
    assert hands.shares.rollback("m", who="x").traffic == Traffic(stable="1")


def test_another_pair_is_another_comparison_and_other_shares_are_not(hands: Hands) -> None:
    first = hands.shares.set("m", canary(5), who="x").run
    assert hands.shares.set("m", canary(50), who="x").run == first
    assert hands.shares.set("m", Traffic(stable="1", canary="3"), who="x").run != first


def test_what_gets_requests_is_not_unloaded(hands: Hands) -> None:
    hands.shares.set("m", Traffic(stable="1", canary="2", percent=5, shadow="3"), who="x")
    with pytest.raises(Conflict, match="m/1 is the stable version"):
        hands.shares.free("m", "1", who="x", force=True)
    for name in ("2", "3"):
        with pytest.raises(Conflict, match="force=true"):
            hands.shares.free("m", name, who="x", force=False)
        hands.shares.free("m", name, who="x", force=True)
    assert hands.book.shares("m").traffic == Traffic(stable="1")


def test_a_models_last_version_may_go_but_not_the_defaults(hands: Hands) -> None:
    hands.shares.free("n", "1", who="x", force=False)
    assert "n" not in hands.routing.value.models
    hands.load()
    only = {key: m for key, m in hands.book.manifests.items() if key == ("m", "1")}
    hands.book.loaded(only, 3, 0)
    with pytest.raises(Conflict, match="answers requests that name no model"):
        hands.shares.free("m", "1", who="x", force=True)


def test_places_are_given_to_others_when_all_are_taken(hands: Hands) -> None:
    first = hands.book.place(("m", "1"))
    for number in range(4, 4 + MOST_VERSIONS - 4):
        gone = ("m", str(number))
        hands.book.place(gone)
        hands.book.enter(gone, "unloaded")
    assert hands.book.place(("m", "new")) == hands.book.place(("m", "new"))
    places = {hands.book.place(key) for key in hands.book.manifests}
    assert hands.book.place(("m", "new")) not in places, "what is loaded keeps its own"
    assert hands.book.place(("m", "1")) == first


def test_more_versions_than_places_are_refused(hands: Hands) -> None:
    hands.load(*(version("m", number) for number in range(4, 4 + MOST_VERSIONS - 4)))
    with pytest.raises(Conflict, match="unload one first"):
        hands.book.place(("m", "one more"))


def test_old_news_are_forgotten(hands: Hands) -> None:
    for number in range(200):
        hands.book.enter(("junk", str(number)), "failed", error="x" * 100)
        hands.book.changed("m", "x", "y" * 100)
    status = hands.status.value
    assert len(status.versions) <= 64
    assert len(status.changes) == MOST_CHANGES
    assert status.find("m", "1") is not None
