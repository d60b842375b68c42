"""Where modules are looked for: never in the folder that the service happens to be started in.

``python -m`` puts the working folder first. Whoever has a ``torch.py`` or a ``fastapi.py`` there
would have it run in place of the library. Imports nothing that is not loaded when Python starts
(not even pathlib), for that could be a stranger's as well.
"""

# ruff: noqa: PTH100, PTH120, PTH121

import os
import sys


def leave_working_folder_out() -> None:
    """Take off the import path what ``python -m`` has put there.

    It stays where this package was itself found through it: in its own source folder.
    """
    if not sys.path or sys.flags.safe_path:
        return
    first, package = sys.path[0] or os.curdir, os.path.dirname(os.path.dirname(__file__))
    if _is_same(first, os.curdir) and not _is_same(first, os.path.dirname(package)):
        del sys.path[0]


def import_path() -> list[str]:
    """The folders in which this process looks for modules, absolute, in order."""
    return [os.path.abspath(folder) for folder in sys.path if folder]


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
