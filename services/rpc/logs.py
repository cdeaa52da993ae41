"""Writes logs to stderr: lines for people, or one JSON object a line."""

import logging
import sys
from datetime import datetime
from typing import Any, Literal, cast

from services.rpc.call import current
from telemetry import logs

_TELLING_ALL = ("aiosqlite", "asyncpg", "botocore", "aiobotocore", "s3fs", "httpcore")
"""Libraries that write down, at level DEBUG, the very values that pass through them: what callers
said and documents hold."""


def set_up(level: str = "info", format: Literal["console", "json"] = "console") -> None:
    """Sends all logs to stderr in the format; takes the place of what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _TELLING_ALL:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))
    # Nothing reads where a record was made, and finding out costs more than the rest of it. These
    # are the switches that the logging HOWTO names for it.
    cast("Any", logging)._srcfile = None
    logging.logThreads = False
    logging.logMultiprocessing = False
    logging.logProcesses = False


def _about() -> dict[str, Any]:
    call = current()
    return {} if call is None else {"request_id": call.request_id, "trace_id": call.trace.trace_id}


class JsonFormatter(logs.JsonFormatter):
    """One JSON object a line, with the call that it was written in."""

    def __init__(self) -> None:
        super().__init__(_about)


class ConsoleFormatter(logging.Formatter):
    """A line for people; a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        # A caller's text must not forge a line of the log.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        extra = logs.extra(record, _about)
        shown = " ".join(
            f"{name}={extra[name]}" for name in ("principal", "request_id") if name in extra
        )
        line = f"{time} {record.levelname.lower():7} {record.name}: {message}"
        if shown:
            line = f"{line} ({shown})"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line
