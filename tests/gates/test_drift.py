import json

import numpy as np
import pytest

from gsop.gates import handover
from gsop.gates.drift import DriftWatch, Plan
from gsop.gates.drift_query import DriftQuery
from gsop.gates.memory import GateMemory
from gsop.gates.queries import answer, ask
from gsop.gates.reference import Reference
from tests.gates.populations import LAYOUT, Answers, answers, reference

WINDOW = 200
PLAN = Plan(WINDOW, 500)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def watch(known: Reference | None) -> DriftWatch:
    return DriftWatch(LAYOUT, known, PLAN)


def add(watch: DriftWatch, values: Answers, size: int = 64) -> None:
    for at in range(0, len(values), size):
        watch.add(values[at : at + size], 1000.0 + at)


def scores(watch: DriftWatch, values: Answers) -> list[float]:
    """The score after each window's worth of images, as soon as there is one."""
    found = []
    for at in range(0, len(values), WINDOW):
        add(watch, values[at : at + WINDOW])
        if (now := watch.status.score) is not None:
            found.append(now)
    return found


def score(watch: DriftWatch) -> float:
    """The present one, of which there must be one."""
    found = watch.status.score
    assert found is not None
    return found


def test_images_like_those_of_the_reference_are_no_drift(random: np.random.Generator) -> None:
    found = scores(watch(reference(random)), answers(random, 60 * WINDOW))
    assert len(found) == 59
    assert max(found) < 1


def test_a_gate_that_moves_is_found_within_two_windows(random: np.random.Generator) -> None:
    seen = watch(reference(random))
    add(seen, answers(random, 3 * WINDOW))
    add(seen, answers(random, 2 * WINDOW, shift=0.7))
    status = seen.status
    assert status.score is not None
    assert status.score > 1
    assert status.gates == 1
    assert status.images == 5 * WINDOW
    assert not status.is_learned


def test_one_window_is_not_enough(random: np.random.Generator) -> None:
    seen = watch(reference(random))
    add(seen, answers(random, WINDOW, shift=3))
    assert seen.status.score is None
    add(seen, answers(random, WINDOW))
    assert score(seen) < 1


def test_other_shares_of_the_classes_are_no_drift(random: np.random.Generator) -> None:
    found = scores(watch(reference(random)), answers(random, 30 * WINDOW, classes=(1,)))
    assert max(found) < 1


def test_an_image_that_comes_again_counts_once(random: np.random.Generator) -> None:
    seen = watch(reference(random))
    add(seen, np.repeat(answers(random, WINDOW), 5, axis=0))
    assert seen.status.images == WINDOW


def test_images_that_are_alike_count_for_as_many_as_they_are_worth(
    random: np.random.Generator,
) -> None:
    """Ten frames of each scene in a row: ten times fewer images than there seem to be."""
    known = reference(random)
    frames = np.repeat(answers(random, 20 * WINDOW), 10, axis=0)
    frames[:, 3:] = (frames[:, 3:] + random.normal(0, 1e-3, frames[:, 3:].shape)).clip(
        1e-6, 1 - 1e-6
    )
    seen = watch(known)
    alarms, naive = 0, 0
    for at in range(0, len(frames), WINDOW):
        add(seen, frames[at : at + WINDOW])
        assert seen.windows is not None
        alarms += (seen.status.score or 0) > 1
        naive += np.abs(seen.windows.newest.shifts).max() * np.sqrt(WINDOW) > known.facts.limit
    assert alarms <= 2
    assert naive > 50, "or this test shows nothing"


def test_the_size_of_batches_changes_nothing(random: np.random.Generator) -> None:
    known, values = reference(random), answers(random, 3 * WINDOW + 17)
    one, other = watch(known), watch(known)
    add(one, values, 64)
    add(other, values, 7)
    # But that of so few gates two images may look like one, and which ones are looked at together.
    assert one.status.score == pytest.approx(other.status.score, rel=0.02)
    assert one.status.images == other.status.images


def test_a_reference_is_learned_from_the_first_images(random: np.random.Generator) -> None:
    seen = watch(None)
    add(seen, answers(random, 320))
    early = seen.learning
    add(seen, answers(random, 192))
    assert (early, seen.learning) == ((320, 500), None)
    assert seen.reference is not None
    assert seen.reference.is_learned
    add(seen, answers(random, 2 * WINDOW))
    assert seen.status.is_learned
    assert score(seen) < 1
    add(seen, answers(random, 2 * WINDOW, shift=1))
    assert score(seen) > 1


def test_nothing_is_learned_where_nobody_wants_it(random: np.random.Generator) -> None:
    for plan in (Plan(WINDOW, 0), Plan(0, 500)):
        seen = DriftWatch(LAYOUT, None, plan)
        add(seen, answers(random, 600))
        assert seen.reference is None
        assert seen.learning is None


def test_familiarity_is_told_of_every_answer(random: np.random.Generator) -> None:
    told: list[float] = []
    seen = DriftWatch(LAYOUT, reference(random), PLAN, lambda part: told.extend(part.tolist()))
    add(seen, answers(random, 100))
    assert len(told) == 100


def memory(known: Reference | None) -> GateMemory:
    return GateMemory(LAYOUT, 1024, drift=watch(known))


def fill(memory: GateMemory, values: Answers) -> None:
    ids = [f"{len(values)}-{n}" for n in range(len(values))]
    memory.add(ids, [1] * len(ids), values)
    memory.catch_up()


def hand_over(old: GateMemory, new: GateMemory) -> None:
    handover.take_over({"tiny/1": new}, handover.write({"tiny/1": old}))


def test_windows_go_on_in_the_engine_that_takes_over(random: np.random.Generator) -> None:
    known = reference(random)
    old, new, whole = memory(known), memory(known), memory(known)
    first, meanwhile, later = (answers(random, n) for n in (333, 25, 300))
    fill(old, first)
    fill(new, meanwhile)
    hand_over(old, new)
    fill(new, later)
    for part in (first, meanwhile, later):
        fill(whole, part)
    assert new.drift is not None
    assert whole.drift is not None
    # Blocks are cut elsewhere, so the images that are worth one are guessed a little otherwise.
    assert new.drift.status.score == pytest.approx(whole.drift.status.score, rel=0.3)
    assert abs(new.drift.status.images - whole.drift.status.images) <= 2 * WINDOW // 20


def test_what_was_learned_goes_on(random: np.random.Generator) -> None:
    old, new = memory(None), memory(None)
    fill(old, answers(random, 900))
    fill(new, answers(random, 50))
    hand_over(old, new)
    assert old.drift is not None
    assert new.drift is not None
    assert new.drift.reference is not None
    assert old.drift.reference is not None
    assert new.drift.reference.digest == old.drift.reference.digest
    fill(new, answers(random, WINDOW // 10))
    assert new.drift.status.score is not None


def test_learning_goes_on(random: np.random.Generator) -> None:
    old, new = memory(None), memory(None)
    fill(old, answers(random, 300))
    fill(new, answers(random, 50))
    hand_over(old, new)
    assert new.drift is not None
    assert new.drift.learning == (350, 500)


def test_windows_of_another_reference_are_not_gone_on_with(random: np.random.Generator) -> None:
    old, new = memory(reference(random)), memory(reference(random))
    fill(old, answers(random, 2 * WINDOW))
    hand_over(old, new)
    assert new.drift is not None
    assert new.drift.status.score is None


def test_a_question_comes_back_as_it_was_answered(random: np.random.Generator) -> None:
    kept = memory(reference(random))
    query = DriftQuery(0)
    before = query.read(*answer([kept], ask(query)))
    assert (before.window, before.score) == (None, None)
    assert before.reference_images == 2000
    fill(kept, answers(random, 2 * WINDOW, shift=2))
    meta, values = answer([kept], ask(query))
    report = query.read(json.loads(json.dumps(meta)), values)
    assert report.window is not None
    assert report.window.is_full
    assert report.window.images == WINDOW
    assert report.gates is not None
    assert np.argmax(np.abs(report.gates.evidence)) == 0
    assert report.gates.shift[0] == pytest.approx(2, abs=0.3)
    assert report.gates.live[0] > report.gates.reference[0]
    np.testing.assert_allclose(report.gates.live[1:], report.gates.reference[1:], atol=0.05)
    assert report.live_mix is not None
    assert report.live_mix.sum() == pytest.approx(1)


def test_a_question_about_what_is_learned(random: np.random.Generator) -> None:
    kept, query = memory(None), DriftQuery(0)
    fill(kept, answers(random, 100))
    assert query.read(*answer([kept], ask(query))).learning == (100, 500)
    unwatched = GateMemory(LAYOUT, 4)
    assert query.read(*answer([unwatched], ask(query))).learning is None
