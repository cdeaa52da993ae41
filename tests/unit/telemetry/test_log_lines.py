"""Lines of a log for machines."""

from __future__ import annotations

import json
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from telemetry.logs import JsonFormatter

VALUES = st.text() | st.integers() | st.binary(max_size=8) | st.none() | st.floats(allow_nan=False)


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "", 0, message, (), None, extra=extra
    )


@given(st.text(st.characters(), max_size=20) | st.just("half \ud800"), VALUES)
def test_whatever_is_logged_is_one_line_of_json(message: str, value: object) -> None:
    line = JsonFormatter(lambda: {"request_id": "req_1"}).format(record(message, value=value))
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == message
    assert read["request_id"] == "req_1"
    assert ("value" in read) == (value is not None)


def test_an_exception_is_there_whole() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        entry = record("it failed")
        entry.exc_info = sys.exc_info()
    read = json.loads(JsonFormatter(dict).format(entry))
    assert read["error"].endswith("ValueError: why")
    assert "request_id" not in read
