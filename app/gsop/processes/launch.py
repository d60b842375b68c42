"""A fresh interpreter that imports what this one imports."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from gsop.processes.import_path import import_path


def launch(
    module: str,
    arguments: Sequence[str],
    descriptors: Sequence[int],
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Run a module as a process of its own, in a group of its own.

    A terminal's Ctrl-C then reaches the supervisor alone, which stops its children in the right
    order.

    Args:
        module: what is run, with ``-m``; looked for where this process looks (``-P`` and
            ``PYTHONPATH``), never in the working folder.
        arguments: of its command line.
        descriptors: files that it inherits, under the same numbers.
        environment: its variables.

    Raises:
        OSError: if there are no processes, descriptors or memory to be had.
    """
    return subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        env={**environment, "PYTHONPATH": os.pathsep.join(import_path())},
        process_group=0,
    )
