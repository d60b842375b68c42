"""Descriptors 0 to 2 are always open.

cron, daemontools and ``nohup … <&-`` start programs with some of them closed. The next socket or
file that is opened takes the free number, and what is then written to "standard error" goes there.
"""

import os
import sys


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed. Called before anything else."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115  # by its number, for good
