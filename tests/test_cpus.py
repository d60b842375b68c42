"""By how many processors the service is sized: affinity and control groups of both versions."""

from pathlib import Path

import pytest

from gsop import cpus
from gsop.settings import Settings

MOUNT = "36 25 0:31 {root} {point} rw,nosuid shared:9 - {kind} none {options}\n"


@pytest.fixture
def process(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text("")
    (tmp_path / "cgroup").write_text("")
    return tmp_path


def mounted(
    process: Path, kind: str, group: str, files: dict[str, str], *, root: str = "/"
) -> float | None:
    point = process / "mount"
    options = "rw,cpu,cpuacct" if kind == "cgroup" else "rw"
    (process / "mountinfo").write_text(
        MOUNT.format(root=root, point=point, kind=kind, options=options)
    )
    (process / "cgroup").write_text(f"7:pids:/x\n{group}\n")
    for name, text in files.items():
        file = point / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return cpus.read_quota(process)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"pod/box/cpu.max": "50000 100000"}, 0.5),
        ({"pod/box/cpu.max": "max 100000"}, None),
        ({"pod/box/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}, 1.5),
        ({"pod/box/cpu.max": "300000 100000", "cpu.max": "200000 100000"}, 2.0),
        ({"elsewhere/cpu.max": "50000 100000"}, None),
        ({"pod/box/cpu.max": "nonsense"}, None),
    ],
)
def test_the_second_version(process: Path, files: dict[str, str], quota: float | None) -> None:
    assert mounted(process, "cgroup2", "0::/pod/box", files) == quota


@pytest.mark.parametrize(("quota", "expected"), [("50000", 0.5), ("-1", None)])
@pytest.mark.parametrize(("root", "below"), [("/", "docker/abc/"), ("/docker/abc", "")])
def test_the_first_version(
    process: Path, quota: str, expected: float | None, root: str, below: str
) -> None:
    files = {f"{below}cpu.cfs_quota_us": quota, f"{below}cpu.cfs_period_us": "100000"}
    group = "1:cpuacct,cpu:/docker/abc"
    assert mounted(process, "cgroup", group, files, root=root) == expected


def test_no_control_groups(process: Path) -> None:
    assert cpus.read_quota(process) is None
    assert cpus.read_quota(process / "nowhere") is None


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (0.5, 1), (1.5, 2), (4.0, 4), (100.0, 8)])
def test_everything_is_sized_by_the_smaller_of_both(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, count: int
) -> None:
    monkeypatch.setattr(cpus, "_affinity", lambda: 8)
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    assert cpus.cpu_count() == count
    settings = Settings.load()
    assert settings.front_count == max(1, count // 2)
    assert settings.decoder_count == count // settings.front_count + 1
    assert f"sized for {count} processors (8 by affinity" in cpus.describe_cpus()
