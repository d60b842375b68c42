"""Who is next among clients."""

from hypothesis import given
from hypothesis import strategies as st

from gsop.serving.turns import HALF_LIFE_SECONDS, MOST_CLIENTS, Turns


def taken(turns: Turns[str], cost: float = 0.0) -> list[str]:
    order = []
    while (found := turns.next(0.0)) is not None:
        order.append(found[1])
        turns.charge(found[0], cost, 0.0)
    return order


def test_one_client_is_served_in_order() -> None:
    turns: Turns[str] = Turns()
    for item in ("a", "b", "c"):
        turns.add("x", item)
    turns.discard("x", "b")
    turns.put_back("x", "z")
    assert len(turns) == 3
    assert taken(turns, 1.0) == ["z", "a", "c"]


def test_a_late_client_is_not_behind_the_crowd() -> None:
    turns: Turns[str] = Turns()
    for number in range(100):
        turns.add("crowd", f"c{number}")
    assert turns.next(0.0) == ("crowd", "c0")
    turns.charge("crowd", 1.0, 0.0)
    turns.add("late", "l0")
    turns.add("late", "l1")
    assert taken(turns, 0.1)[:2] == ["l0", "l1"]


def test_cost_counts_and_not_number() -> None:
    turns: Turns[str] = Turns()
    for number in range(20):
        turns.add("dear", f"d{number}")
        turns.add("cheap", f"c{number}")
    order = []
    for _ in range(11):
        client, item = turns.next(0.0) or ("", "")
        order.append(item)
        turns.charge(client, 1.0 if client == "dear" else 0.1, 0.0)
    assert sum(item.startswith("d") for item in order) == 1


def test_what_was_used_is_forgotten() -> None:
    turns: Turns[str] = Turns()
    turns.charge("x", 8.0, 0.0)
    assert turns.used("x", HALF_LIFE_SECONDS) == 4.0
    assert turns.used("y", 0.0) == 0.0
    for number in range(2 * MOST_CLIENTS):
        turns.charge(f"c{number}", 1.0, 0.0)
    assert turns.used("x", 0.0) == 0.0


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 50)), max_size=60))
def test_nothing_is_lost_or_doubled(added: list[tuple[str, int]]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for client, number in added:
        turns.add(client, (client, number))
    assert len(turns) == len(set(added))
    found = []
    while (one := turns.next(0.0)) is not None:
        found.append(one[1])
    assert sorted(found) == sorted(set(added))
    assert turns.drain() == []
