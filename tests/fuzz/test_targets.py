"""The fuzzing targets over their seeds and corpus, and over what hypothesis makes of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_break_nothing(name: str) -> None:
    for data in seeds(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds_what_fuzzing_found(name: str) -> None:
    assert list((CORPUS / name).glob("*"))


@pytest.mark.parametrize("name", TARGETS)
def test_splices_break_nothing(name: str) -> None:
    some = st.sampled_from(list(seeds(name)))
    place = st.floats(0, 1)

    @given(some, some, place, place, st.binary(max_size=20))
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(head: bytes, tail: bytes, cut: float, join: float, middle: bytes) -> None:
        TARGETS[name](head[: int(cut * len(head))] + middle + tail[int(join * len(tail)) :])

    check()
