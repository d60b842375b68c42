"""Statistics on an emulated GPU against those in the host's memory."""

import numpy as np
import pytest
import torch

from gsop.backends.device_tally import MOST, DeviceTally
from gsop.gates.memory import GateMemory
from gsop.gates.statistics import GateStatistics
from gsop.gates.tally import ClassTally, HostTally
from tests.emulated_cuda import Machine, emulated
from tests.gates.test_memory import gates, layout

CLASSES, SIZE = 7, 12
GENERATOR = np.random.default_rng(1)


def check_same(found: GateStatistics | None, expected: GateStatistics | None) -> None:
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.samples == expected.samples
        np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-12)


@pytest.mark.parametrize("seed", [None, 0])
def test_a_device_counts_as_the_host_does(seed: int | None) -> None:
    with emulated(Machine(devices=2, seed=seed)):
        tallies: list[ClassTally] = [
            HostTally(SIZE),
            DeviceTally(CLASSES, SIZE, torch.device("cuda", 1)),
        ]
        for count in (1, 5, MOST, 3 * MOST + 1):
            values, classes = gates(count, SIZE), GENERATOR.integers(0, CLASSES - 1, count)
            for tally in tallies:
                given, keys = values.copy(), classes.copy()
                tally.add(given, keys)
                given[:], keys[:] = -1, 0  # they are not kept
        extra = GateStatistics.empty(SIZE)
        extra.add(gates(4, SIZE))
        for tally in tallies:
            tally.merge(2, extra)
        host, device = tallies
        assert device.classes() == host.classes() == list(range(CLASSES - 1))
        for class_id in (*range(CLASSES), -1, 99):
            check_same(device.of(class_id), host.of(class_id))
        check_same(device.total(), host.total())


def test_to_count_on_a_device_waits_for_the_block_before_alone() -> None:
    with emulated(Machine(devices=1)) as machine:
        tally = DeviceTally(CLASSES, SIZE, torch.device("cuda", 0))
        machine.waits.clear()
        tally.add(gates(3, SIZE), np.array([0, 1, 1]))
        tally.add(gates(3, SIZE), np.array([0, 1, 1]))
        assert machine.waits == ["a stream", "a stream"]


def test_a_memory_hands_over_what_a_device_has_counted() -> None:
    with emulated(Machine(devices=1)):
        tally = DeviceTally(CLASSES, SIZE, torch.device("cuda", 0))
        memory = GateMemory(layout(CLASSES, SIZE), 8, tally=tally)
        plain = GateMemory(layout(CLASSES, SIZE), 8)
        values = gates(20, CLASSES + SIZE)
        for one in (memory, plain):
            one.add([f"{n}" for n in range(20)], [1] * 20, values, [n % 3 for n in range(20)])
        after = GateMemory(layout(CLASSES, SIZE), 8)
        after.take_over(*memory.state())
        for class_id in (None, *range(CLASSES)):
            check_same(after.statistics(class_id), plain.statistics(class_id))
        check_same(after.statistics(caller=2), plain.statistics(caller=2))


def test_a_device_that_counted_nothing_says_so() -> None:
    with emulated(Machine(devices=1)):
        found = DeviceTally(CLASSES, SIZE, torch.device("cuda", 0)).total()
    check_same(found, GateStatistics.empty(SIZE))
