"""Writes logs to stderr, for people or for machines."""

import logging
import sys

from gateway.context import current
from gateway.settings_telemetry import LogSettings
from telemetry.logs import JsonFormatter


def configure(settings: LogSettings) -> None:
    """Sends the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(JsonFormatter(_about))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _about() -> dict[str, str]:
    context = current()
    if context is None:
        return {}
    return {"request_id": context.request_id, "trace_id": context.trace.trace_id}
