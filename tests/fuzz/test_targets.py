"""The fuzzing targets over their seeds and corpus, and over what hypothesis makes of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, seeds

MOST_KEPT_BYTES = 300_000
"""Of all corpora: they lie in the repository."""


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_break_nothing(name: str) -> None:
    assert list((CORPUS / name).iterdir())
    for data in seeds(name):
        TARGETS[name](data)


def test_the_corpora_are_small() -> None:
    kept = [file.stat().st_size for file in CORPUS.glob("*/*")]
    assert sum(kept) < MOST_KEPT_BYTES


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
