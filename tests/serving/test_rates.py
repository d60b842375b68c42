"""A key's rate over instances, whose Redis is real and whose time is not."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis import Redis
from redis.exceptions import RedisError

from gsop.arena.block import Role
from gsop.arena.service import ServiceMemory
from gsop.arena.service_board import SupervisorBoard
from gsop.errors import RateLimited
from gsop.keys import make_key
from gsop.serving.callers import Callers
from gsop.serving.keyring import Keeper
from gsop.serving.rates import Rates, part
from gsop.settings import Settings
from tests.arena.conftest import plan
from tests.shared_store import Store

RATE = 20.0
KEY, ENTRY = make_key("some", ["predict"])


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (0, 0, 20),  # nobody asks: whoever comes may have it all
        (5, 5, 15),  # what the other leaves
        (0, 12, 8),
        (30, 10, 15),  # too much: by what is asked for
        (10, 30, 5),
        (0, 99, 0.2),  # what is not asked for now may be soon
        (90, 0, 20),
    ],
)
def test_an_instances_part(own: float, others: float, expected: float) -> None:
    assert part(RATE, own, others) == pytest.approx(expected)


class Instance:
    """The parts of one that limit keys: a front, the supervisor, and the store."""

    def __init__(self, url: str) -> None:
        settings = {"rate_per_key": RATE, "rate_shared": True, "shared_url": url}
        self.memory = ServiceMemory.create(plan(**settings, fronts=1))
        board = SupervisorBoard(self.memory)
        keeper = Keeper(board.keys, [ENTRY])
        self.store = Redis.from_url(url, socket_timeout=5)
        self.rates = Rates(self.memory, keeper, self.store)
        self.callers = Callers(ServiceMemory.attach(self.memory.fd, Role("front", 0)))

    def let_through(self, count: int) -> int:
        found = 0
        for _ in range(count):
            with contextlib.suppress(RateLimited):
                self.callers.admit(KEY.encode())
                found += 1
        return found


class Two:
    """Two instances at which a key asks for so much each second."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instances = [Instance(store.url) for _ in range(2)]
        self._now = 1_000_000.0
        clock = SimpleNamespace(monotonic=lambda: self._now, time=lambda: self._now)
        monkeypatch.setattr("gsop.serving.callers.time", clock)

    def rates(self, *asked: int, seconds: int = 10) -> list[float]:
        """What each lets through a second, after ten seconds of it."""
        found = [0, 0]
        for second in range(10 + seconds):
            for step in range(4):
                self._now += 0.25
                for number, instance in enumerate(self.instances):
                    share = asked[number] // 4 + (step < asked[number] % 4)
                    found[number] += instance.let_through(share) * (second >= 10)
            for instance in self.instances:
                try:
                    instance.rates.exchange(self._now)
                except RedisError:
                    instance.rates.stand_alone()
        return [each / seconds for each in found]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    if shutil.which("redis-server") is None:
        pytest.skip("apt-get install redis-server")
    made = Store(tmp_path)
    yield made
    made.kill()


def test_a_keys_rate_counts_for_all_instances(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Two(store, monkeypatch)
    try:
        assert sum(two.rates(8, 8)) == pytest.approx(16)  # less than the rate: all of it
        assert two.rates(40, 40) == pytest.approx([10, 10], rel=0.1)
        assert two.rates(60, 0) == pytest.approx([20, 0], rel=0.1)
        assert two.rates(15, 45) == pytest.approx([5, 15], rel=0.1)
        store.kill()
        assert two.rates(40, 40) == pytest.approx([20, 20], rel=0.1)  # each alone
        store.start()
        assert two.rates(40, 40) == pytest.approx([10, 10], rel=0.1)
        kept = two.instances[0].store.keys("gsop:asked:*")
        assert kept
        assert all(0 < two.instances[0].store.ttl(name) <= 30 for name in kept)
    finally:
        for instance in two.instances:
            instance.store.close()
            instance.memory.close()


@pytest.mark.parametrize("poison", ["inf", "nan", "-1e9", "1e308", "1e200", "many"])
def test_what_is_no_count_counts_as_none(store: Store, poison: str) -> None:
    instance = Instance(store.url)
    try:
        assert instance.let_through(1) == 1
        instance.rates.exchange(1_000_000.0)
        (digest,) = instance.store.hkeys("gsop:asked:1000000")
        instance.store.hset("gsop:asked:1000000", digest, poison)
        instance.rates.exchange(1_000_001.0)
        assert instance.memory.view("key_parts").max() == pytest.approx(RATE)
    finally:
        instance.store.close()
        instance.memory.close()


def test_it_wants_a_rate_and_a_store() -> None:
    with pytest.raises(Exception, match="GSOP_RATE_SHARED without GSOP_SHARED_URL"):
        Settings.load(rate_shared=True, rate_per_key=5)
