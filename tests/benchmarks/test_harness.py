import math
import os
import subprocess
import sys

import pytest
import simplejpeg

from benchmarks import bodies, closed_loop, machine
from benchmarks.processes import MARK, CpuMeter, members, parse_stat, pss_bytes, rss_bytes
from benchmarks.summary import figure, markdown, percentile, spread


def test_bodies_are_photographs_of_the_size_that_is_said() -> None:
    small = bodies.jpeg("small")
    assert simplejpeg.decode_jpeg_header(small)[:2] == (375, 500)
    assert 45_000 < len(small) < 55_000
    assert small == bodies.jpeg("small")


def test_wrk_result_is_found_among_its_own_lines() -> None:
    output = (
        "Running 5s test @ http://127.0.0.1:1/predict\n  1 threads and 16 connections\n"
        'RESULT {"requests": 110, "seconds": 5.0, "p50_ms": 1.5, "p90_ms": 2.0, '
        '"p99_ms": 3.0, "errors": 10}\n'
    )
    seen = closed_loop.parse(output)
    assert (seen.requests, seen.errors, seen.p99_ms) == (110, 10, 3.0)
    assert seen.rate == 20
    with pytest.raises(ValueError, match="unable to connect"):
        closed_loop.parse("unable to connect to 127.0.0.1:1")


def test_percentile_is_the_nearest_rank() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, p) for p in (0, 20, 50, 99, 100)] == [1, 1, 3, 5, 5]
    assert math.isnan(percentile([], 50))


def test_figures_show_their_spread() -> None:
    assert spread([9.0, 10.0, 11.0]) == pytest.approx(0.2)
    assert spread([0.0]) == 0
    assert figure([9.0, 10.0, 11.0], 1) == "10.0 ±10%"


def test_a_table_has_a_line_a_row() -> None:
    assert markdown(("server", "rate"), [["a", "1"]]).splitlines() == [
        "| server | rate |",
        "| --- | ---: |",
        "| a | 1 |",
    ]


def test_stat_survives_any_command() -> None:
    fields = ["S", "7", *["0"] * 9, "100", "50", "20", "30", *["0"] * 30]
    stat = parse_stat(f"42 (a) b (c)) {' '.join(fields)}")
    assert stat.parent == 7
    assert stat.seconds == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))


def test_daemons_and_dead_children_are_counted() -> None:
    """The started process burns time in a child that ends, and leaves a daemon behind."""
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"""
import os, subprocess, sys
print(flush=True); sys.stdin.readline()
subprocess.run([sys.executable, "-c", {burn!r}])
daemon = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(daemon.pid, flush=True); sys.stdin.readline()
daemon.kill(); daemon.wait()
"""
    environment = {**os.environ, MARK: "daemons"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        meter = CpuMeter(process.pid, "daemons")
        process.stdin.write("\n")
        process.stdin.flush()
        daemon = int(process.stdout.readline())
        assert set(members(process.pid, "daemons")) == {process.pid, daemon}
        assert daemon in members(1 << 30, "daemons")  # found by its mark alone
        assert meter.seconds() >= 0.29
        assert 0 < pss_bytes(process.pid) <= rss_bytes(process.pid) * 1.1
        process.stdin.write("\n")
    assert not members(process.pid, "daemons")


def test_the_machine_is_described() -> None:
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["packages"]["torch"]
    assert described["date"].endswith("+00:00")
