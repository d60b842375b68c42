"""The CUDA backend on emulated GPUs, which finish as late as they may (tests/emulated_cuda)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from gsop.backends.base import OutOfMemory, warm_up_in_memory
from gsop.backends.graphs import Graphs
from gsop.backends.torch_cpu import TorchCpu
from gsop.backends.torch_cuda import TorchCuda
from gsop.backends.torch_device import find_device, find_dtype, within_memory
from gsop.errors import ConfigError, SetupError
from gsop.store.store import load
from tests.emulated_cuda import Machine, emulated

MOST = 4
IMAGES = list(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
Answers = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def flags_kept() -> Iterator[None]:
    """What a backend sets for its process."""
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


@pytest.fixture(scope="module")
def right(tiny_store: Path) -> Answers:
    """The answers of :data:`IMAGES`, by the CPU."""
    manifest, network = load(tiny_store / "tiny" / "1")
    cpu = TorchCpu(
        manifest, network, device=torch.device("cpu"), dtype=torch.float32, max_batch=8, threads=1
    )
    return cpu.result(cpu.submit(IMAGES)).copy()


def opened(store: Path, index: int = 0, *, most: int = MOST) -> TorchCuda:
    """Inside of an emulation."""
    manifest, network = load(store / "tiny" / "1")
    device = torch.device("cuda", index)
    return TorchCuda(manifest, network, device=device, dtype=torch.float32, max_batch=most)


def check(found: Answers, expected: Answers) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ── the right device ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_it_answers_right_on_another_device_than_the_current_one(
    tiny_store: Path, right: Answers, seed: int | None
) -> None:
    with emulated(Machine(devices=2, seed=seed)):
        backend = opened(tiny_store, 1)
        torch.cuda.set_device(0)  # somebody else's work
        for recorded in (False, True):
            if recorded:
                backend.warm_up()
            for size in (1, 3, 4, 2):
                first = backend.submit(IMAGES[:size])
                second = backend.submit(IMAGES[4 : 4 + size])
                check(backend.result(first), right[:size])
                check(backend.result(second), right[4 : 4 + size])


def test_two_devices_in_one_process_do_not_meet(tiny_store: Path, right: Answers) -> None:
    with emulated(Machine(devices=2)):
        backends = [opened(tiny_store, index) for index in (0, 1)]
        for backend in backends:
            backend.warm_up()
        pending = [b.submit(IMAGES[at : at + 3]) for at, b in enumerate(backends)]
        for at, (backend, one) in enumerate(zip(backends, pending, strict=True)):
            check(backend.result(one), right[at : at + 3])


def test_no_other_device_is_touched(tiny_store: Path) -> None:
    with emulated(Machine(devices=2)) as machine:
        backend = opened(tiny_store, 1)
        backend.warm_up()
        backend.result(backend.submit(IMAGES[:1]))
        assert [device.is_used for device in machine.devices] == [False, True]


def test_the_device_that_is_not_numbered_is_the_first(tiny_store: Path, right: Answers) -> None:
    with emulated(Machine(devices=2)):
        for name in ("cuda", "auto"):
            assert find_device(name) == torch.device("cuda", 0)
        with pytest.raises(ConfigError, match="2 CUDA devices are visible"):
            find_device("cuda:2")


# ── when the host waits ──────────────────────────────────────────────────────────────────────────


def test_to_submit_waits_for_nothing(tiny_store: Path) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store)
        backend.warm_up()
        machine.waits.clear()
        pending = [backend.submit(IMAGES[:3]), backend.submit(IMAGES[3:6])]
        assert machine.waits == []
        for one in pending:
            backend.result(one)
        assert machine.waits == ["an event", "an event"]


def test_who_waits_for_a_batch_sleeps(tiny_store: Path) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store)
        machine.events.clear()
        backend.result(backend.submit(IMAGES[:1]))
        assert machine.events[-1] is True


# ── memory that ends ─────────────────────────────────────────────────────────────────────────────


def allocations_of_a_batch(store: Path) -> int:
    with emulated(Machine()) as machine:
        backend = opened(store)
        backend.result(backend.submit(IMAGES[:MOST]))
        machine.devices[0].fail_in = 10**6
        backend.result(backend.submit(IMAGES[:MOST]))
        return 10**6 - machine.devices[0].fail_in


def test_a_batch_that_does_not_fit_leaves_the_one_in_flight_unharmed(
    tiny_store: Path, right: Answers
) -> None:
    count = allocations_of_a_batch(tiny_store)
    assert count > 20
    for nth in (1, 2, 3, count // 2, count - 1, count):
        with emulated(Machine()) as machine:
            backend = opened(tiny_store)
            flying = backend.submit(IMAGES[:MOST])
            machine.devices[0].fail_in = nth
            with pytest.raises(OutOfMemory):
                backend.submit(IMAGES[4:8])
            backend.shrink(2)
            smaller = backend.submit(IMAGES[4:6])
            backend._copies.synchronize()  # a device copies as far ahead as it is let
            check(backend.result(flying), right[:MOST])
            check(backend.result(smaller), right[4:6])


def test_the_next_batch_does_not_overwrite_what_is_still_copied(tiny_store: Path) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store)
        machine.devices[0].fail_in = 5
        with pytest.raises(OutOfMemory):
            backend.submit(IMAGES[:MOST])
        assert backend._copies.query(), "the device may still read the buffer of the next batch"


def test_memory_is_given_back_with_nothing_of_the_batch_alive(tiny_store: Path) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store)
        backend.result(backend.submit(IMAGES[:MOST]))
        live = machine.devices[0].live
        machine.devices[0].fail_in = 20
        with pytest.raises(OutOfMemory) as kept:
            backend.submit(IMAGES[:MOST])
        backend.shrink(2)
        assert kept.value.__context__ is None  # and so nothing that torch's own exception held
        assert machine.empties[-1][0] == live


def test_a_warm_up_that_does_not_fit_is_halved(tiny_store: Path, right: Answers) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store, most=8)
        backend.result(backend.submit(IMAGES[:3]))
        machine.devices[0].capacity = machine.devices[0].most + 40_000
        warm_up_in_memory(backend)
        assert 1 <= backend.max_batch < 8
        size = backend.max_batch
        check(backend.result(backend.submit(IMAGES[:size])), right[:size])


def test_memory_that_ends_while_a_graph_is_recorded_is_no_other_error(
    tiny_store: Path, right: Answers
) -> None:
    """What ends the recording raises an error of its own in its place."""
    failed = 0
    with emulated(Machine()) as machine:
        backend = opened(tiny_store)
        record, end = torch.cuda.CUDAGraph.capture_begin, torch.cuda.CUDAGraph.capture_end

        def begin(graph: torch.cuda.CUDAGraph, *arguments: object, **options: object) -> None:
            nonlocal failed
            failed += 1
            record(graph, *arguments, **options)  # type: ignore[arg-type]
            if failed == 1:
                machine.devices[0].fail_in = 7

        def end_spoilt(graph: torch.cuda.CUDAGraph) -> None:
            end(graph)
            if failed == 1:
                raise RuntimeError("CUDA error: operation failed due to a previous error")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.cuda.CUDAGraph, "capture_begin", begin)
            patched.setattr(torch.cuda.CUDAGraph, "capture_end", end_spoilt)
            warm_up_in_memory(backend)
        assert failed > 1
        assert backend.max_batch == MOST // 2
        check(backend.result(backend.submit(IMAGES[:2])), right[:2])


def test_weights_that_do_not_fit_have_a_reason(tiny_store: Path) -> None:
    from gsop.backends.base import Place
    from gsop.store.manifest import read_manifest

    folder = tiny_store / "tiny" / "1"
    with emulated(Machine()) as machine:
        machine.devices[0].capacity = 1000
        with pytest.raises(SetupError, match="cuda:0 has no memory for tiny/1: end what else"):
            TorchCuda.open(folder, read_manifest(folder), Place("cuda", "float32"))


class AsAccelerator(RuntimeError):
    """As torch's, of a call of CUDA's own."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.error_code = code


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        AsAccelerator("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_memory_ends_in_other_words_too(error: RuntimeError) -> None:
    """Where a library asks for it, and where torch's allocator is not asked."""

    def fail() -> None:
        raise error

    with pytest.raises(OutOfMemory) as kept:
        within_memory(fail)
    assert str(kept.value) == str(error)
    assert kept.value.__context__ is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        AsAccelerator("CUDA error: an illegal memory access was encountered", 700),
    ],
)
def test_other_errors_stay_what_they_are(error: RuntimeError) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError) as kept:
        within_memory(fail)
    assert kept.value is error


# ── graphs ───────────────────────────────────────────────────────────────────────────────────────


def test_a_graph_that_recorded_nothing_is_found_out() -> None:
    with emulated(Machine(devices=2)):
        images = torch.zeros(2, 4, 4, 3, device="cuda:0")
        elsewhere = torch.cuda.Stream(0)  # type: ignore[no-untyped-call]  # torch leaves it untyped

        def compute(batch: Tensor) -> Tensor:
            answers = torch.empty(len(batch), 2, device="cuda:0")
            with torch.cuda.stream(elsewhere):
                return answers.fill_(1.0)

        with pytest.raises(RuntimeError, match="batches of 2 computes nothing"):
            Graphs(compute, images, [1, 2])


def test_a_recording_that_fails_leaves_the_stream_as_it_was(tiny_store: Path) -> None:
    with emulated(Machine()):
        current = torch.cuda.current_stream()
        images = torch.zeros(1, 4, 4, 3, device="cuda:0")
        calls = 0

        def compute(batch: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 3:  # two to warm up, then the recording: of which the host may read nothing
                batch.sum().item()
            return batch.sum(dim=(1, 2, 3)).float()

        with pytest.raises(RuntimeError, match="CUDA error"):
            Graphs(compute, images, [1])
        assert torch.cuda.current_stream() == current


def test_all_sizes_are_recorded_on_one_stream(tiny_store: Path) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store, most=8)
        before = len(machine.streams)
        backend.warm_up()
        assert len(machine.streams) == before + 1


def test_a_backend_that_shrinks_gives_its_larger_graphs_back(
    tiny_store: Path, right: Answers
) -> None:
    with emulated(Machine()) as machine:
        backend = opened(tiny_store, most=8)
        backend.warm_up()
        kept = machine.devices[0].live
        backend.shrink(3)
        assert machine.devices[0].live < kept
        assert machine.empties[-1][0] < kept
        check(backend.result(backend.submit(IMAGES[:3])), right[:3])


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


def test_float32_is_float32(tiny_store: Path) -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    with emulated(Machine()):
        opened(tiny_store)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_precision_follows_what_the_device_has() -> None:
    with emulated(Machine()) as machine:
        device = torch.device("cuda", 0)
        assert find_dtype("auto", device) == torch.bfloat16
        machine.has_bfloat16 = False  # before Ampere
        assert find_dtype("auto", device) == torch.float16
        assert find_dtype("float32", device) == torch.float32
        with pytest.raises(ConfigError, match=r"GSOP_PRECISION=bfloat16.*Emulated GPU 0.*float16"):
            find_dtype("bfloat16", device)
