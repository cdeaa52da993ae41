"""Writes logs to stderr: lines for people, or one JSON object a line."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, cast

import orjson

from services.rpc.call import current

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(level: str = "info", format: Literal["console", "json"] = "console") -> None:
    """Sends all logs to stderr in the format; takes the place of what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Nothing reads where a record was made, and finding out costs more than the rest of it. These
    # are the switches that the logging HOWTO names for it.
    cast("Any", logging)._srcfile = None
    logging.logThreads = False
    logging.logMultiprocessing = False
    logging.logProcesses = False


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Returns what the caller added to a record, and the call it was made in.

    A record may bring it all as `fields`, which costs less than looking for it.
    """
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is not None:
        return fields
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    call = current()
    if call is not None:
        extra.setdefault("request_id", call.request_id)
        extra.setdefault("trace_id", call.trace.trace_id)
    return {name: value for name, value in extra.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what else the record has."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """A line for people; a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        # A caller's text must not forge a line of the log.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        extra = _extra(record)
        shown = " ".join(
            f"{name}={extra[name]}" for name in ("principal", "request_id") if name in extra
        )
        line = f"{time} {record.levelname.lower():7} {record.name}: {message}"
        if shown:
            line = f"{line} ({shown})"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line
