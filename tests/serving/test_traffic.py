"""How requests are spread: shares, and what sticks together."""

from collections import Counter

import pytest
from pydantic import ValidationError

from gsop.serving.traffic import Routing, Shares, Traffic, position

CANARY = Traffic(stable="1", canary="2", percent=20)


def test_without_a_canary_the_stable_version_answers() -> None:
    for traffic in (
        Traffic(stable="1"),
        Traffic(stable="1", canary="2"),
        Traffic(stable="1", shadow="2"),
    ):
        assert {traffic.choose("m", key) for key in (None, "a", "b")} == {("1", "stable")}


def test_a_canary_gets_its_share_by_chance() -> None:
    # Binomial(20 000, 0.2): within five standard deviations with a probability of 1 - 6e-7.
    chosen = Counter(CANARY.choose("m", None) for _ in range(20_000))
    assert abs(chosen["2", "canary"] - 4000) < 5 * 56.6
    assert chosen["2", "canary"] + chosen["1", "stable"] == 20_000


def test_what_sticks_keeps_its_version_as_the_share_grows() -> None:
    keys = [f"client {number}" for number in range(5000)]
    before: set[str] = set()
    for percent in (0, 5, 20, 70, 100):
        traffic = Traffic(stable="1", canary="2", percent=percent, sticky="key")
        members = {key for key in keys if traffic.choose("m", key)[1] == "canary"}
        assert before <= members
        assert abs(len(members) - 50 * percent) < 180  # five standard deviations of Binomial
        before = members


def test_another_canary_chooses_others() -> None:
    keys = [f"client {number}" for number in range(5000)]
    chosen = [
        {key for key in keys if Traffic(stable="1", canary=c, percent=20).choose("m", key)[0] == c}
        for c in ("2", "3")
    ]
    overlap = len(chosen[0] & chosen[1]) / len(chosen[0])
    assert abs(overlap - 0.2) < 0.07


def test_positions_are_the_same_in_every_process() -> None:
    assert position("digits/2", "shop") == pytest.approx(0.7075697757, abs=1e-9)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"percent": 5}, "percent without a canary"),
        ({"canary": "1", "percent": 5}, "neither the canary nor the shadow"),
        ({"shadow": "1"}, "neither the canary nor the shadow"),
        ({"canary": "2", "shadow": "2"}, "both canary and shadow"),
        ({"canary": "2", "percent": 101}, "less than or equal to 100"),
        ({"canary": "2", "percent": float("nan")}, "percent"),
        ({"canary": "../2"}, "pattern"),
        ({"sticky": "cookie"}, "pattern"),
        ({"stabel": "1"}, "Extra inputs"),
    ],
)
def test_shares_that_make_no_sense_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Traffic.model_validate({"stable": "1"} | fields)


def test_what_the_supervisor_writes_the_fronts_read() -> None:
    routing = Routing(default="m", models={"m": Shares(3, 2, CANARY), "n": Shares(1, 1, CANARY)})
    assert Routing.parse(routing.model_dump_json().encode()) == routing
    assert Routing.parse(b"") == Routing()


def test_it_is_told_in_words() -> None:
    traffic = Traffic(stable="1", canary="2", percent=2.5, shadow="3", sticky="header:X-User")
    assert str(traffic) == "1 stable, 2 canary with 2.5 % by header:X-User, 3 shadow"
