"""How the service's processes share processors with each other."""

import contextlib
import os

DECODER_NICENESS = 4
"""A decoder leaves the processor to its front and to an engine, which have requests in hand that
are nearer to their end; but not so readily that other programs of the machine could starve it."""


def let_work_gather(niceness: int = 0) -> None:
    """Have this process, its threads and those that it will start, not interrupt who is running.

    Linux lets who is woken by a message take the processor from who sent it. Where processors are
    scarce, the processes of a request would take it from each other for every single image; as
    *batch* processes (sched(7)) each finds several that have come meanwhile, and costs less for
    each: 3 to 4 % of all processor time, for 4 to 8 % more requests a second
    (docs/performance.md). Where a processor is idle, who is woken starts at once as ever.

    Args:
        niceness: added to the process's own (nice(2)).
    """
    for thread in _threads():
        with contextlib.suppress(AttributeError, OSError):  # another system, or one that forbids it
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    if niceness:
        os.nice(niceness)


def _threads() -> list[int]:
    """This process's threads; 0, the calling one, if they cannot be known."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208  # names alone
    except OSError:
        return [0]
