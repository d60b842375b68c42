"""The filters of both machines, by an interpreter; and what this kernel makes of them."""

import errno
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsop.processes.cage import ENGINE_RULES, FRONT_RULES, decoder_rules
from gsop.processes.seccomp import ALLOW, KILL, Rule, When, program, refuse
from gsop.processes.syscalls import MACHINES, NUMBERS, number
from tests.processes import bpf
from tests.support import ROOT, START_SECONDS

BOTH = pytest.mark.parametrize("machine", MACHINES)
EPERM, ENOSYS = refuse(errno.EPERM), refuse(errno.ENOSYS)
PID = 4711
A_THREAD, A_CHILD = 0x3D0F00, 0x01200011
"""What pthread_create() and fork() ask clone(2) for."""


def verdict(filter_: bytes, machine: str, call: str, *arguments: int) -> int:
    which = number(call, machine)
    assert which is not None
    audit = MACHINES[machine].audit
    return bpf.run(filter_, machine=audit, number=which, arguments=arguments)


def calls_of(machine: str) -> set[str]:
    return {name for name in NUMBERS if number(name, machine) is not None}


@BOTH
def test_the_first_rule_that_counts_decides(machine: str) -> None:
    rules = [
        Rule("mmap", EPERM, When(2, 0b110, 0b100)),
        Rule("mmap", ENOSYS, When(5, 0xFFFFFFFF, 7)),
        Rule("mmap", ALLOW),
        Rule("close", EPERM),
        Rule("close", ALLOW),
    ]
    made = program(rules, KILL, machine)
    assert verdict(made, machine, "mmap", 0, 0, 0b101) == EPERM
    assert verdict(made, machine, "mmap", 0, 0, 0b110) == ALLOW
    assert verdict(made, machine, "mmap", 0, 0, 0, 0, 0, 7) == ENOSYS
    assert verdict(made, machine, "mmap", 0, 0, 0, 0, 0, 8) == ALLOW
    assert verdict(made, machine, "close") == EPERM
    assert verdict(made, machine, "write") == KILL


@BOTH
def test_another_machine_s_numbers_end_the_process(machine: str) -> None:
    made = program([Rule("write", ALLOW)], ALLOW, machine)
    i386, arm = 0x40000003, 0x40000028
    others = {i386, arm, *(other.audit for other in MACHINES.values())} - {MACHINES[machine].audit}
    for other in others:
        assert bpf.run(made, machine=other, number=4) == KILL


def test_the_second_set_of_calls_of_x86_64_ends_it_too() -> None:
    """Whoever forbids some calls by their numbers must not be asked for them by others."""
    made, audit = program([], ALLOW, "x86_64"), MACHINES["x86_64"].audit
    for call in range(600):
        assert bpf.run(made, machine=audit, number=call) == ALLOW
        assert bpf.run(made, machine=audit, number=0x40000000 + call) == KILL


class TestDecoder:
    @BOTH
    def test_may_do_what_decoding_does_and_nothing_else(self, machine: str) -> None:
        made = program(decoder_rules(PID), KILL, machine)
        allowed = {name for name in calls_of(machine) if verdict(made, machine, name) == ALLOW}
        assert allowed == {
            *("brk", "madvise", "mmap", "mprotect", "mremap", "munmap"),
            *("close", "recvfrom", "sendto", "write"),
            *("clock_gettime", "gettimeofday", "futex", "sched_yield", "getrandom", "setitimer"),
            *("getpid", "gettid", "restart_syscall", "rseq"),
            *("sched_getaffinity", "set_robust_list"),
            *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "exit", "exit_group"),
        }

    @BOTH
    @given(
        which=st.integers(0, 2**32 - 1), arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6)
    )
    @settings(deadline=None, derandomize=True, database=None)
    def test_no_other_number_passes(self, machine: str, which: int, arguments: list[int]) -> None:
        known = {number(name, machine) for name in calls_of(machine)}
        made = program(decoder_rules(PID), KILL, machine)
        if which not in known:
            audit = MACHINES[machine].audit
            assert bpf.run(made, machine=audit, number=which, arguments=arguments) == KILL

    @BOTH
    @pytest.mark.parametrize("call", ["mmap", "mprotect"])
    @pytest.mark.parametrize("protection", range(8))
    def test_has_no_memory_that_can_be_run(self, machine: str, call: str, protection: int) -> None:
        made = program(decoder_rules(PID), KILL, machine)
        may = verdict(made, machine, call, 0, 4096, protection) == ALLOW
        assert may == (not protection & 4)

    @BOTH
    def test_has_threads_and_no_children(self, machine: str) -> None:
        made = program(decoder_rules(PID), KILL, machine)
        assert verdict(made, machine, "clone", A_THREAD) == ALLOW
        assert verdict(made, machine, "clone", A_CHILD) == KILL
        assert verdict(made, machine, "clone3") == ENOSYS
        for call in {"fork", "vfork"} & calls_of(machine):
            assert verdict(made, machine, call) == KILL

    @BOTH
    def test_signals_itself_alone(self, machine: str) -> None:
        made = program(decoder_rules(PID), KILL, machine)
        assert verdict(made, machine, "tgkill", PID, PID, 6) == ALLOW
        assert verdict(made, machine, "tgkill", PID + 1, PID, 6) == KILL


class TestFrontAndEngine:
    @BOTH
    @pytest.mark.parametrize("rules", [FRONT_RULES, ENGINE_RULES], ids=["front", "engine"])
    def test_start_no_program_and_look_into_nobody(
        self, machine: str, rules: tuple[Rule, ...]
    ) -> None:
        made = program(rules, ALLOW, machine)
        for call in ("execve", "execveat", "ptrace", "process_vm_readv", "bpf", "mount"):
            assert verdict(made, machine, call) == EPERM
        assert verdict(made, machine, "io_uring_setup") == ENOSYS
        for call in ("mmap", "socket", "sendto", "futex", "close"):
            assert verdict(made, machine, call, 0, 0, 4) == ALLOW

    @BOTH
    def test_a_front_has_threads_and_no_children(self, machine: str) -> None:
        made = program(FRONT_RULES, ALLOW, machine)
        assert verdict(made, machine, "clone", A_THREAD) == ALLOW
        assert verdict(made, machine, "clone", A_CHILD) == EPERM
        assert verdict(made, machine, "clone3") == ENOSYS
        for call in {"fork", "vfork"} & calls_of(machine):
            assert verdict(made, machine, call) == EPERM


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@BOTH
def test_the_numbers_are_the_kernel_s(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    lines = re.finditer(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(), re.M)
    theirs = {line[1]: int(line[2]) for line in lines}
    ours = {name: number(name, machine) for name in NUMBERS if name in theirs}
    assert len(ours) > 50
    assert ours == {name: theirs[name] for name in ours}
    absent = {name for name in NUMBERS if number(name, machine) is None}
    assert not absent & theirs.keys()


def test_a_number_means_one_call() -> None:
    for column in range(2):
        numbers = [both[column] for both in NUMBERS.values() if both[column] is not None]
        assert len(numbers) == len(set(numbers))


def test_every_call_that_is_named_is_known() -> None:
    assert {
        rule.call for rule in chain(decoder_rules(PID), FRONT_RULES, ENGINE_RULES)
    } <= NUMBERS.keys()


IN_ITS_CAGE = """
import errno, os, sys, threading
from gsop.processes import seccomp
from gsop.processes.seccomp import ALLOW, KILL, Rule, refuse
from gsop.processes.syscalls import prctl
prctl(38, 1)
rules = [Rule("getrandom", refuse(errno.EDOM))]
answers = []
ask, asked = threading.Event(), threading.Event()

def look():
    ask.wait()
    try:
        os.getrandom(1)
        answers.append("given")
    except OSError as error:
        answers.append(errno.errorcode[error.errno])

before = threading.Thread(target=look)
before.start()
seccomp.install(rules, ALLOW, all_threads=sys.argv[1] == "all")
ask.set()
before.join()
look()
print(*answers)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
@pytest.mark.parametrize(("threads", "answers"), [("all", "EDOM EDOM"), ("one", "given EDOM")])
def test_threads_that_are_there_can_be_filtered_too(threads: str, answers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ITS_CAGE, threads],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.stdout.strip() == answers, done.stderr
