"""Descriptors 0 to 2 are always open, and take every text.

cron, daemontools and ``nohup … <&-`` start programs with some of them closed. The next socket or
file that is opened takes the free number, and what is then written to "standard error" goes there.

A text may hold what a stream's encoding cannot: a name of a file that is no UTF-8, or a sign that
an ASCII terminal has not. It is written as an escape.
"""

import io
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


def take_every_text() -> None:
    """Have the standard streams write as escapes what their encoding cannot write."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
