"""Log lines: what they hold, and what they must not."""

import json
import logging
import subprocess
import sys

import pytest

from gsop.logs import REQUEST_ID, JsonFormatter, TextFormatter
from tests.support import ROOT


def record(message: str, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("gsop", logging.ERROR, "x.py", 1, message, (), info)
    made.__dict__ |= extra
    return made


def raised() -> Exception:
    try:
        try:
            int("the secret of a client")
        except ValueError as cause:
            raise RuntimeError("another secret") from cause
    except RuntimeError as error:
        return error
    raise AssertionError("unreachable")


def test_a_line_is_json_with_the_id_of_its_request() -> None:
    formatter = JsonFormatter("front 0", private=True)
    token = REQUEST_ID.set("abc")
    try:
        line = json.loads(formatter.format(record("two\nlines", members={"ms": 1.5})))
    finally:
        REQUEST_ID.reset(token)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "error",
        "process": "front 0",
        "request_id": "abc",
        "message": "two\nlines",
        "ms": 1.5,
    }
    assert "\n" not in formatter.format(record("two\nlines"))
    assert json.loads(formatter.format(record("x")))["request_id"] is None


@pytest.mark.parametrize("kind", [JsonFormatter, TextFormatter])
def test_a_private_line_holds_no_message_of_an_exception(kind: type[JsonFormatter]) -> None:
    text = kind("front 0", private=True).format(record("it failed", raised()))
    assert "secret" not in text
    assert str(ROOT) not in text
    for part in ("RuntimeError", "ValueError", "test_logs.py:", " raised"):
        assert part in text
    assert "\n" not in text
    assert "another secret" in kind("engine 0", private=False).format(record("", raised()))


def test_even_a_death_is_one_line_of_json() -> None:
    code = (
        "import threading, warnings; from gsop.logs import configure\n"
        "configure('front 0', level='info', form='json', private=True)\n"
        "warnings.warn('beware')\n"
        "thread = threading.Thread(target=lambda: int('secret')); thread.start(); thread.join()\n"
        "int('secret')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "critical", "critical"]
    assert [line.get("error") for line in lines] == [None, "ValueError", "ValueError"]
    assert "secret" not in done.stderr
