"""Each row about a GPU, without one: by doubles of what tells of it, and on an emulated one."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import kernels, machine, right, running, speed
from benchmarks.gpu.kernels import Kernel, check_kernels, pauses
from benchmarks.gpu.rows import Report
from benchmarks.servers import Kind
from gsop.backends.base import Pixels
from tests.emulated_cuda import Machine, emulated


def failed(report: Report) -> list[str]:
    return [row.what for row in report.failed]


def skipped(report: Report) -> dict[str, str]:
    return {row.what: row.found for row in report.rows if row.skipped}


def test_what_is_skipped_has_a_reason_and_fails_nothing() -> None:
    report = Report()
    report.skip("a second device", "1 is visible")
    assert not report.failed
    assert report.table().splitlines()[-1].endswith("| skip |")
    assert report.content()[0]["skipped"]


def test_what_is_not_begun_in_time_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    parts = {name: (lambda name=name: begun.append(name)) for name in ("one", "other")}
    monkeypatch.setattr(command, "_parts", lambda *_, **__: parts)
    monkeypatch.setattr(Report, "seconds", property(lambda _: 0 if not begun else 480.5))
    assert command.main(["--device", "cpu"]) == 0
    assert begun == ["one"]
    assert "skip  other: the 8 minutes are over" in capsys.readouterr().out


# ── what tools tell ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a program on the path that says something."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, says: str, *, status: int = 0) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{says}\nEND\nexit {status}\n")
        (tmp_path / name).chmod(0o755)

    return put


@pytest.fixture
def gpu() -> Iterator[Machine]:
    with emulated(Machine(devices=2)) as made:
        yield made


H100 = "NVIDIA H100 80GB HBM3, {}, 81559 MiB, Disabled, {}"


@pytest.mark.parametrize(
    ("driver", "mode", "wrong"),
    [
        ("580.65.06", "Default", []),
        ("575.57.08", "Default", ["NVIDIA driver"]),
        ("580.65.06", "Exclusive_Process", ["compute mode"]),
    ],
)
def test_the_machine_is_held_to_what_the_goals_take_for_granted(
    tool: Any, gpu: Machine, driver: str, mode: str, wrong: list[str]
) -> None:
    tool("nvidia-smi", H100.format(driver, mode))
    report = Report()
    machine.check_machine(report)
    assert failed(report) == wrong


def test_a_machine_without_nvidia_smi_is_told(tool: Any, gpu: Machine) -> None:
    report = Report()
    machine.check_machine(report)
    assert not report.failed
    assert "nvidia-smi" in skipped(report)
    assert machine.memory_mib() is None


def test_memory_is_that_of_all_devices(tool: Any) -> None:
    tool("nvidia-smi", "1024\n2048")
    assert machine.memory_mib() == 3072
    tool("nvidia-smi", "[Insufficient Permissions]")
    assert machine.memory_mib() is None
    tool("nvidia-smi", "no devices were found", status=6)
    assert machine.memory_mib() is None


@pytest.mark.parametrize(
    ("says", "wrong"),
    [
        ("6 passed\n========= ERROR SUMMARY: 0 errors", False),
        ("========= Invalid __global__ read\n========= ERROR SUMMARY: 3 errors", True),
        ("========= Error: Target application terminated before first instrumented API call", True),
    ],
)
def test_wrong_accesses_to_memory_are_counted(tool: Any, says: str, wrong: bool) -> None:
    tool("compute-sanitizer", says)
    report = Report()
    machine.check_memory_accesses(report, until=480)
    assert bool(report.failed) is wrong
    assert not skipped(report)


def test_without_the_sanitizer_or_without_its_end_the_row_says_so(
    tool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    report = Report()
    machine.check_memory_accesses(report, until=480)
    (reason,) = skipped(report).values()
    assert "not installed" in reason
    monkeypatch.setattr("shutil.which", lambda name, path: "/bin/sleep")
    monkeypatch.setattr(machine, "NEEDS_A_GPU", [])
    monkeypatch.setattr("subprocess.run", too_long)
    machine.check_memory_accesses(report, until=report.seconds + 2)
    assert skipped(report).popitem()[1] == "it was not done after 2 s"
    assert not report.failed


def too_long(*_: Any, timeout: float, **__: Any) -> None:
    raise subprocess.TimeoutExpired("it", timeout)


def test_who_has_a_gpu_open_is_found(tmp_path: Path) -> None:
    for pid, name in ((10, "/dev/nvidia0"), (11, "/dev/nvidiactl"), (12, "/dev/nvidia15")):
        (tmp_path / f"{pid}" / "fd").mkdir(parents=True)
        (tmp_path / f"{pid}" / "fd" / "5").symlink_to(name)
    assert machine.holders([10, 11, 12, 13], proc=tmp_path) == [10, 12]


# ── the service ──────────────────────────────────────────────────────────────────────────────────

METRICS = """\
# HELP gsop_engine_info Where an engine computes, and in what.
gsop_engine_info{device="cuda:0",engine="0",precision="bfloat16"} 1.0
gsop_engine_info{device="cuda:1",engine="1",precision="bfloat16"} 1.0
"""


class Started:
    """As a server that is ready; its second engine is, once it was asked for."""

    pid, mark, ready_seconds = 1, "", 5.0
    asked = 0

    def __init__(self, kind: Kind, *_: Any) -> None:
        self.environment: Mapping[str, str] = kind.environment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def text(self, path: str) -> str:
        assert path == "/metrics"
        self.asked += 1
        return (
            METRICS
            if self.asked > 1
            else METRICS[: METRICS.index('gsop_engine_info{device="cuda:1')]
        )


@pytest.mark.parametrize(
    ("device", "open_", "seconds", "wrong"),
    [
        ("cuda:0,cuda:1", ["engine", "engine"], 5.0, []),
        ("cuda:0,cuda:1", ["engine", "front"], 5.0, ["processes that have a GPU open"]),
        ("cuda:0", ["engine", "others"], 5.0, ["processes that have a GPU open"]),
        ("cuda:0", ["engine"], 30.0, ["seconds until it answers"]),
        ("cuda:0,cuda:2", ["engine", "engine"], 5.0, ["gsop_engine_info"]),
    ],
)
def test_a_start_is_quick_names_its_devices_and_opens_each_once(
    monkeypatch: pytest.MonkeyPatch, device: str, open_: list[str], seconds: float, wrong: list[str]
) -> None:
    monkeypatch.setattr(running, "Server", Started)
    monkeypatch.setattr(Started, "ready_seconds", seconds)
    monkeypatch.setattr(running, "members", lambda pid, mark: dict.fromkeys(range(9)))
    monkeypatch.setattr(running, "holders", lambda pids: range(len(open_)))
    monkeypatch.setattr(running, "role_of", lambda pid: open_[pid])
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    report = Report(began=0)
    running.check_start(report, device)
    assert failed(report) == [f"{device}: {what}" for what in wrong]


@pytest.mark.slow
def test_a_kernel_that_fails_ends_the_engine_and_no_request(tmp_path: Path) -> None:
    """On an emulated GPU, which fails when the host waits for it."""
    report = Report()
    backend = "tests.emulated_cuda.backend:EmulatedFailing"
    running.check_failure(report, "cuda", backend, precision="float32", max_batch="2", fronts="1")
    assert not report.failed, report.table()


def test_a_second_device_is_asked_alone_and_beside_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(right, "check_served", lambda _, device, count, **__: asked.append(device))
    report = Report()
    right.check_others(report, 1, 300)
    assert skipped(report) == {"a second device": "1 is visible"}
    right.check_others(report, 2, 300)
    assert asked == ["cuda:1", "cuda:0,cuda:1"]


def test_what_grows_or_spins_under_load_is_found() -> None:
    starts, rests = [100.0 * n for n in range(9)], [2.0] * 9
    for memory, busy, wrong in (
        ([*starts, *[1000.0] * 12], [*rests, *[0.6] * 12], []),
        ([1000.0 + 100 * n for n in range(12)], [0.6] * 12, ["device memory grows by, MiB, 64"]),
        ([1000.0] * 12, [1.3] * 12, ["processors that an engine takes, 64"]),
        ([], [], []),
    ):
        watch, report = running.Watch(), Report()
        watch.memory, watch.processors = memory, busy
        watch.check(report, "64", 10)
        assert failed(report) == wrong


def test_a_watch_looks_while_something_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(running, "engine_seconds", lambda: {7: 0.001 * next(seconds)})
    monkeypatch.setattr(running, "memory_mib", lambda: 10.0)
    with running.Watch(every=0.001) as watch:
        while len(watch.processors) < 3:
            pass
    assert watch.memory[:3] == [10.0] * 3
    assert all(0 < share <= 1.5 for share in watch.processors)


# ── kernels ──────────────────────────────────────────────────────────────────────────────────────


def batch_of(start: float, *names: str, each: float = 1e-3, apart: float = 1e-6) -> list[Kernel]:
    return [Kernel(name, start + n * (each + apart), each) for n, name in enumerate(names)]


PLAIN = ("sm90_xmma_fprop_implicit_gemm_bf16", "vectorized_elementwise_kernel<4, relu>", "relu")


def test_kernels_are_told_by_their_time() -> None:
    report = Report()
    check_kernels(report, [*batch_of(0, *PLAIN), *batch_of(0.01, *PLAIN)], 2)
    assert not report.failed
    told = {row.what: row.found for row in report.rows}
    assert told["kernels and copies of a batch"] == "3"
    assert told["of the kernels' time, passes over memory"] == "67%"
    assert told[f"kernel {PLAIN[0]}"] == "1.000 ms a batch, 33%"


def test_a_change_of_layout_and_a_device_that_waits_are_found() -> None:
    report = Report()
    check_kernels(report, batch_of(0, *PLAIN, "void cudnn::ops::nchwToNhwcKernel<float>"), 1)
    assert failed(report) == ["kernels that change a map's layout"]
    report = Report()
    check_kernels(report, batch_of(0, *PLAIN, apart=1e-4), 1)
    assert failed(report) == ["pauses of more than 50 µs, a batch"]


def test_kernels_that_overlap_leave_no_pause_between_them() -> None:
    found = pauses([Kernel("a", 0, 5), Kernel("copy", 1, 1), Kernel("b", 4, 2), Kernel("c", 8, 1)])
    assert found == [2]


def test_a_profiler_that_sees_no_kernel_is_no_device_that_rests() -> None:
    report = Report()
    check_kernels(report, [], 3)
    assert list(skipped(report)) == ["kernels of a batch"]


class Profiled:
    """As torch's profiler, which has seen a kernel, the copy before it, and what the host did."""

    def __init__(self, **_: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def events(self) -> list[Any]:
        return [
            SimpleNamespace(
                name=name,
                device_type=SimpleNamespace(name=device),
                time_range=SimpleNamespace(start=start, elapsed_us=lambda: 2000),
            )
            for name, device, start in (
                ("gemm", "CUDA", 7000),
                ("aten::conv2d", "CPU", 1000),
                ("Memcpy HtoD", "CUDA", 3000),
            )
        ]


def test_a_device_is_profiled_while_it_computes_full_batches(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, sizes = speed.warm(tiny_store / "tiny" / "1", "cpu", 2), list[int]()
    submit = backend.submit

    def counted(images: Sequence[Pixels]) -> Any:
        sizes.append(len(images))
        return submit(images)

    monkeypatch.setattr(backend, "submit", counted)
    monkeypatch.setattr("torch.profiler.profile", Profiled)
    found = kernels.profiled(backend, 2)
    assert found == [Kernel("Memcpy HtoD", 0.003, 0.002), Kernel("gemm", 0.007, 0.002)]
    assert sizes == [2] * 5, "three for the clocks to rise, and two that are looked at"


def test_a_device_is_timed_by_its_own_events(tiny_store: Path, gpu: Machine) -> None:
    backend = right.opened(tiny_store / "tiny" / "1", "cuda", "float32", 2)
    gpu.events.clear()
    assert speed.seconds_of(backend, 2) > 0
    assert gpu.events.count(False) == 2, "a batch's own events block, and are no clocks"


def test_batches_of_all_sizes_are_right_on_an_emulated_device(
    tiny_store: Path, gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(right, "SIZES", (1, 2))
    report = Report()
    right.check_graphs(report, tiny_store / "tiny" / "1", "cuda:1", 2)
    assert not report.failed
    assert torch.cuda.current_device() == 1


def test_torchrun_is_held_to_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*arguments: str) -> None:
        folder = Path(arguments[-1])
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"processes": 2, "top1": 0.9}))

    monkeypatch.setattr(right, "run_module", trained)
    for devices, wrong in ((2, []), (4, ["processes under torchrun"])):
        report = Report()
        right.check_torchrun(report, devices)
        assert failed(report) == wrong
