"""Which system calls a process may still make: filters of the kernel's seccomp(2).

A filter is a small program (classic BPF, linux/filter.h) that the kernel runs before each call. It
sees which processor's numbers are used, the call's number and its arguments as they are in the
registers (``struct seccomp_data`` of linux/seccomp.h), and says what is to be done.
"""

import ctypes
import errno
import struct
from collections.abc import Iterable
from typing import NamedTuple

from gsop.processes.syscalls import MACHINES, call, machine_name, number

ALLOW = 0x7FFF0000
KILL = 0x80000000
"""The process ends at once, by SIGSYS."""


def refuse(code: int) -> int:
    """The call fails with this error number."""
    return 0x00050000 | code


class When(NamedTuple):
    """A rule counts only if ``argument & mask == value``.

    Only the lower half of an argument is looked at: the kernel's own are ``int``, or flags that are
    all in that half.

    Attributes:
        argument: which one, from 0.
        mask: the bits that count.
        value: what they are to be.
    """

    argument: int
    mask: int
    value: int


class Rule(NamedTuple):
    """What becomes of a call; the first rule that counts decides.

    Attributes:
        call: its name.
        action: :data:`ALLOW`, :data:`KILL` or :func:`refuse`.
        when: of which calls; of all if absent.
    """

    call: str
    action: int
    when: When | None = None


_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_X32_NUMBERS = 0x40000000
"""From here on x86_64 has its calls a second time, for programs with short pointers."""

_SET_FILTER = 1
_ALL_THREADS = 1
_KEEP_SPECULATION = 4
"""Before Linux 5.16 a filter would else make every process slower that has one (``ssbd`` in the
kernel's spec_ctrl.rst): a guard for programs that run strangers' code beside their secrets."""


def program(rules: Iterable[Rule], otherwise: int, machine: str) -> bytes:
    """The filter, as the kernel reads it.

    Args:
        rules: in their order; those of calls that the machine has not are left out.
        otherwise: what becomes of all other calls.
        machine: one of :data:`gsop.processes.syscalls.MACHINES`. Calls by the numbers of another
            one end the process.
    """
    code = [
        _step(_LOAD, _MACHINE_AT),
        _step(_IF_EQUAL, MACHINES[machine].audit, 1, 0),
        _step(_RETURN, KILL),
        _step(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        code += [_step(_IF_AT_LEAST, _X32_NUMBERS, 0, 1), _step(_RETURN, KILL)]
    for rule in rules:
        which = number(rule.call, machine)
        if which is not None:
            code += _code_of(rule, which)
    return b"".join([*code, _step(_RETURN, otherwise)])


def _code_of(rule: Rule, which: int) -> list[bytes]:
    """Jumps over itself where the rule does not count; the call's number is loaded at both ends."""
    if rule.when is None:
        return [_step(_IF_EQUAL, which, 0, 1), _step(_RETURN, rule.action)]
    return [
        _step(_IF_EQUAL, which, 0, 5),
        _step(_LOAD, _ARGUMENTS_AT + 8 * rule.when.argument),
        _step(_AND, rule.when.mask),
        _step(_IF_EQUAL, rule.when.value, 0, 1),
        _step(_RETURN, rule.action),
        _step(_LOAD, _NUMBER_AT),
    ]


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, operand)


def install(rules: Iterable[Rule], otherwise: int, *, all_threads: bool = False) -> None:
    """Filter this thread's calls from now on, and those of the threads that it will start.

    The thread must have given up new privileges (``PR_SET_NO_NEW_PRIVS``).

    Args:
        rules: in their order.
        otherwise: what becomes of all other calls.
        all_threads: also those of all threads that there are.

    Raises:
        OSError: if the kernel or a container forbids it, or the machine is not known here.
    """
    machine = machine_name()
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known")
    code = ctypes.create_string_buffer(program(rules, otherwise, machine))
    filter_ = struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code))
    flags = _KEEP_SPECULATION | (_ALL_THREADS if all_threads else 0)
    thread = call("seccomp", _SET_FILTER, flags, filter_)
    if thread:
        raise OSError(errno.ESRCH, f"thread {thread} has a filter of its own")
