"""The log: one JSON object a line on standard error, with the id of the request that it is about.

Nothing that a client sent is written: no image, key, path or query. An exception's message may hold
such a thing, so of a front's exceptions only the class and the places in the code are kept.
"""

import json
import logging
import sys
import threading
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that this task serves; set by the front."""

TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""Its trace; set by the front, where traces are made."""

_ROOT = Path(__file__).parent.parent


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, process: str, *, private: bool) -> None:
        """Prepare.

        Args:
            process: which of the service's processes writes, such as ``front 0``.
            private: whether messages of exceptions are left out.
        """
        super().__init__()
        self._process = process
        self._private = private

    def format(self, record: logging.LogRecord) -> str:
        """``time``, ``level``, ``process``, ``request_id``, ``message``, and what the call adds."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "request_id": REQUEST_ID.get(),
            "message": record.getMessage(),
        }
        if (trace := TRACE_ID.get()) is not None:
            line["trace_id"] = trace
        line |= getattr(record, "members", {})
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe(record.exc_info[1], private=self._private)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(JsonFormatter):
    """The same for people: what stands first in the JSON, and the rest as JSON behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = json.loads(super().format(record))
        first = [line.pop(key) for key in ("time", "level", "process", "message")]
        rest = {key: value for key, value in line.items() if value is not None}
        time_, level, process, message = first
        text = f"{time_} {level.upper()} {process}: {message}"
        return f"{text} {json.dumps(rest, ensure_ascii=False)}" if rest else text


def describe(error: BaseException, *, private: bool) -> dict[str, Any]:
    """An exception's class, the places that it came through, and its message unless private."""
    # Not extract_tb, which opens the files of the code.
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    members: dict[str, Any] = {
        "error": type(error).__qualname__,
        "where": [f"{_place(code.co_filename)}:{line} {code.co_name}" for code, line in places],
    }
    if not private:
        members["reason"] = str(error)
    if error.__cause__ is not None:
        members["cause"] = describe(error.__cause__, private=private)
    return members


def _place(filename: str) -> str:
    """A module's file without the folders of this machine."""
    path = Path(filename)
    if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
        return str(path.relative_to(_ROOT))
    parts = path.parts
    at = len(parts) - 1 - parts[::-1].index("site-packages") if "site-packages" in parts else -2
    return "/".join(parts[at + 1 :])


def configure(process: str, *, level: str, form: str, private: bool = False) -> None:
    """Have this process write its log, and what Python itself would print of a death or a warning.

    Args:
        process: which of the service's processes it is.
        level: least severe that is written.
        form: ``json``, ``text``, or ``auto``: text on a terminal, else JSON.
        private: whether messages of exceptions are left out.
    """
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((TextFormatter if as_text else JsonFormatter)(process, private=private))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_death
    threading.excepthook = lambda fault: _log_death(
        fault.exc_type, fault.exc_value or fault.exc_type(), fault.exc_traceback
    )


def _log_death(
    kind: type[BaseException], error: BaseException, places: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("gsop").critical("an unforeseen error", exc_info=(kind, error, places))
