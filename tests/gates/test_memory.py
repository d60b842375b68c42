import numpy as np
import pytest

from gsop.gates.answers import AnswerLayout
from gsop.gates.memory import BLOCK, GateMemory
from gsop.gates.queries import RecordQuery, StatisticsQuery, answer, ask
from gsop.model.config import GateSpec

GENERATOR = np.random.default_rng(0)


def gates(count: int, size: int = 6) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return GENERATOR.uniform(0, 1, (count, size)).astype(np.float32)


def layout(classes: int, size: int) -> AnswerLayout:
    labels = tuple(f"class {number}" for number in range(classes))
    return AnswerLayout(labels, (GateSpec("layer1", "layer1.0", "channel", (size,)),))


def test_memory_keeps_the_newest_records() -> None:
    memory = GateMemory(layout(3, 6), capacity=4)
    values = gates(6, size=9)
    for start in (0, 3):
        ids = [f"id{n}" for n in range(start, start + 3)]
        memory.add(ids, [1, 2, 3], values[start : start + 3])
    assert memory.record("id1") is None
    kept = memory.record("id4")
    assert kept is not None
    assert kept.top_k == 2
    np.testing.assert_array_equal(kept.values, values[4])
    assert [record.id for record in memory.recent(10)] == ["id5", "id4", "id3", "id2"]
    assert [record.id for record in memory.recent(2)] == ["id5", "id4"]


def test_statistics_by_class_follow_the_winner() -> None:
    memory = GateMemory(layout(2, 1), capacity=4)
    values = np.array([[0.9, 0.1, 0.25], [0.2, 0.8, 0.5], [0.7, 0.3, 0.75]], np.float32)
    memory.add(["a", "b", "c"], [1, 1, 1], values)
    assert memory.statistics(0).samples == 2
    assert memory.statistics(0).mean[0] == pytest.approx(0.5)
    assert memory.statistics(1).mean[0] == pytest.approx(0.5)
    assert memory.statistics().samples == 3


def test_questions_come_back_as_they_were_answered() -> None:
    memory = GateMemory(layout(2, 3), capacity=4)
    values = gates(2, size=5)
    memory.add(["a", "b"], [1, 2], values)
    query = StatisticsQuery(model=0)
    seen = query.read(*answer([memory], ask(query)))
    assert seen.samples == 2
    np.testing.assert_array_equal(seen.sums, memory.statistics().sums)

    record = RecordQuery("b")
    found = record.read(*answer([memory], ask(record)))
    assert found is not None
    np.testing.assert_array_equal(found[1].values, values[1])
    unknown = RecordQuery("c")
    assert unknown.read(*answer([memory], ask(unknown))) is None


def test_a_class_never_seen_has_no_samples() -> None:
    memory = GateMemory(layout(2, 3), capacity=4)
    query = StatisticsQuery(model=0, class_id=1)
    assert query.read(*answer([memory], ask(query))).samples == 0


def test_callers_see_their_own() -> None:
    memory = GateMemory(layout(2, 1), capacity=4)
    values = np.array([[1, 0, x] for x in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)], np.float32)
    memory.add(list("abcdef"), [1] * 6, values, [1, 2, 1, 2, 0, 1])
    assert [record.id for record in memory.recent(9)] == ["f", "e", "d", "c"]
    assert [record.id for record in memory.recent(9, caller=1)] == ["f", "c"]
    assert [record.id for record in memory.recent(1, caller=2)] == ["d"]
    assert memory.record("c", caller=1) is not None
    assert memory.record("c") is not None
    assert memory.record("c", caller=2) is None
    assert memory.record("e", caller=2) is None
    assert [memory.statistics(caller=i).samples for i in (1, 2, 3)] == [3, 2, 0]
    assert memory.statistics(caller=2).high[0] == pytest.approx(0.4)
    assert memory.statistics().samples == 6


@pytest.mark.parametrize("capacity", [1, 5, BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("batch", [1, 7, 2 * BLOCK + 1])
def test_statistics_miss_nothing_whatever_the_blocks(capacity: int, batch: int) -> None:
    memory = GateMemory(layout(3, 6), capacity=capacity)
    values = gates(5 * BLOCK, size=9)
    callers = [row % 3 for row in range(len(values))]
    for start in range(0, len(values), batch):
        rows = slice(start, start + batch)
        ids = [f"id{row}" for row in range(len(values))[rows]]
        memory.add(ids, [1] * len(ids), values[rows], callers[rows])
    assert memory.statistics().samples == len(values)
    np.testing.assert_allclose(memory.statistics().mean, values[:, 3:].mean(axis=0), rtol=1e-6)
    winners = values[:, :3].argmax(axis=1)
    for key in range(3):
        assert memory.statistics(class_id=key).samples == np.count_nonzero(winners == key)
    assert memory.statistics(caller=2).samples == callers.count(2)
    np.testing.assert_array_equal(memory.statistics(caller=1).low, values[1::3, 3:].min(axis=0))


def test_what_is_new_is_told_once_and_of_much_the_newest() -> None:
    memory = GateMemory(layout(3, 6), capacity=4)
    assert memory.after(0, 10) == (0, [])
    values = gates(1, size=9)
    for number in range(6):
        memory.add([f"{number}"], [1], values, [number])
    number, found = memory.after(3, 10)
    assert (number, [(r.id, caller) for r, caller in found]) == (6, [("3", 3), ("4", 4), ("5", 5)])
    assert [r.id for r, _ in memory.after(0, 10)[1]] == ["2", "3", "4", "5"]
    assert [r.id for r, _ in memory.after(0, 2)[1]] == ["4", "5"]
    assert memory.after(6, 10)[1] == []
    assert [r.id for r, _ in memory.after(99, 10)[1]] == ["2", "3", "4", "5"]  # it began anew
