"""Logs for machines: one JSON object a line, of the same form in every process."""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

About = Callable[[], Mapping[str, Any]]
"""Tells of the request that this task serves: its IDs. Nothing outside of one."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extra(record: logging.LogRecord, about: About) -> dict[str, Any]:
    """Returns what the caller added to a record, and the request that it was made in.

    A record may bring it all as `fields`, which costs less than looking for it.
    """
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is not None:
        return fields
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {k: v for k, v in {**about(), **found}.items() if v is not None}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what else the record has."""

    def __init__(self, about: About) -> None:
        """Takes what tells of requests."""
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extra(record, self._about),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # half a character, or a number beyond 64 bits
            return json.dumps(line, default=str)
