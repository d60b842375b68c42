"""``python -m gsop`` and ``gsop``: make this process fit to run a command, then run it."""

import sys
from collections.abc import Sequence

from gsop.processes.import_path import leave_working_folder_out
from gsop.processes.streams import open_standard_streams, take_every_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status.

    Args:
        arguments: of the command line. If ``None``, this process's own: then it is there for the
            command alone, and is made fit for it.
    """
    if arguments is None:
        open_standard_streams()
        take_every_text()
        leave_working_folder_out()
    # Only now: what it imports must not come from the working folder.
    from gsop.commands.parser import run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
