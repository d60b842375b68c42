"""Which GPU is seen, and what is said where none is: texts alone."""

from pathlib import Path

import pytest

from gsop.backends.gpus import VISIBLE, see_only, why_none

DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build\n"


@pytest.mark.parametrize(
    ("name", "before", "after", "called"),
    [
        ("cuda", None, "0", "cuda"),
        ("cuda:1", None, "1", "cuda"),
        ("auto", None, "0", "auto"),
        ("cuda:1", "3,5", "5", "cuda"),
        ("cuda", " GPU-aa , GPU-bb ", "GPU-aa", "cuda"),
        ("auto", "MIG-aa,MIG-bb", "MIG-aa", "auto"),
        ("GPU-8f0c-11", "0,1", "GPU-8f0c-11", "cuda"),
        ("MIG-8f0c-22", None, "MIG-8f0c-22", "cuda"),
        ("cuda:2", "3,5", "3,5", "cuda:2"),
        ("cpu", "3,5", "3,5", "cpu"),
        ("cpu", None, None, "cpu"),
        ("auto", "", "", "auto"),
        ("cuda:1", "-1", "-1", "cuda:1"),
    ],
)
def test_an_engine_sees_one_gpu(
    name: str, before: str | None, after: str | None, called: str
) -> None:
    environment = {} if before is None else {VISIBLE: before}
    assert see_only(name, environment) == called
    assert environment.get(VISIBLE) == after


def machine(root: Path, *, driver: str | None, passed: bool) -> Path:
    if driver is not None:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text(driver)
    if passed:
        (root / "dev").mkdir()
        (root / "dev/nvidiactl").touch()
    return root


def test_a_driver_that_is_too_old_is_named_with_the_one_that_is_needed(tmp_path: Path) -> None:
    found = why_none("2.13.0+cu130", "13.0", {}, machine(tmp_path, driver=DRIVER, passed=True))
    assert found == (
        "torch 2.13.0+cu130 (CUDA 13.0) needs driver 580 or newer, and here is 535.104.05"
    )


def test_a_driver_that_is_new_enough_is_not_blamed_for_its_age(tmp_path: Path) -> None:
    """It may wait for a reboot, or for what connects the GPUs."""
    root = machine(tmp_path, driver=DRIVER.replace("535.104.05", "580.65.06"), passed=True)
    found = why_none("2.13.0+cu130", "13.0", {}, root)
    assert found is not None
    assert "driver 580.65.06, new enough for torch 2.13.0+cu130, does not start" in found
    assert "nvidia-smi" in found
    assert "needs driver" not in found


def test_a_cuda_that_is_not_known_needs_a_newer_driver(tmp_path: Path) -> None:
    found = why_none("3.0", "14.1", {}, machine(tmp_path, driver="?", passed=True))
    assert found == (
        "torch 3.0 (CUDA 14.1) needs a newer driver, and here is one of unknown version"
    )


def test_a_gpu_that_the_container_was_not_given_is_told_from_that(tmp_path: Path) -> None:
    found = why_none("2.13.0+cu130", "13.0", {}, machine(tmp_path, driver=DRIVER, passed=False))
    assert found is not None
    assert "docker run --gpus all" in found


def test_a_torch_without_cuda_is_told_from_that(tmp_path: Path) -> None:
    found = why_none("2.13.0+cpu", None, {}, machine(tmp_path, driver=DRIVER, passed=True))
    assert found is not None
    assert "built without CUDA" in found


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_who_hides_the_gpus_means_the_cpu(tmp_path: Path, hidden: str) -> None:
    root = machine(tmp_path, driver=DRIVER, passed=True)
    assert why_none("2.13.0", "13.0", {VISIBLE: hidden}, root) is None


def test_a_machine_without_a_gpu_needs_no_reason(tmp_path: Path) -> None:
    assert (
        why_none("2.13.0+cu130", "13.0", {}, machine(tmp_path, driver=None, passed=False)) is None
    )
