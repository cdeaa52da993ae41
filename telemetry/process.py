"""What a process tells, from its start to its end: where metrics are, and where traces go."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from telemetry import tracing
from telemetry.exposition import Exposition
from telemetry.registry import build_info

OFF = "off"
"""An address of metrics: nowhere."""

_ABOVE = 1000
_logger = logging.getLogger(__name__)


class TellingError(Exception):
    """Metrics or traces can't be told as the settings say. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How a process tells of itself."""

    service: str
    """Its name: `inference`, `gateway`, …"""
    address: str
    """Where it serves, as host:port."""
    metrics_address: str = ""
    """Where its metrics are. Empty: on loopback, at the port of `address` + 1000."""
    otlp_endpoint: str = ""
    """Where its traces go. Empty: nowhere."""


@contextlib.asynccontextmanager
async def telling(how: Telling) -> AsyncGenerator[Exposition]:
    """Tells while the block runs. Raises `TellingError`."""
    build_info(how.service, _version())
    exposition = Exposition()
    if how.metrics_address != OFF:
        await _listen(exposition, how)
        _logger.info("%s tells its metrics at http://%s/metrics", how.service, exposition.address)
    try:
        async with _recording(how):
            yield exposition
    finally:
        await exposition.close()


def metrics_place(address: str, given: str = "") -> tuple[str, int]:
    """Returns host and port for the metrics of a process that serves at `address`. Port 0 takes a
    free one."""
    host, _, port = (given or address).rpartition(":")
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        if not given:
            return "127.0.0.1", 0  # it serves at a socket without a port
        raise TellingError(
            f"metrics_address must be host:port, such as 127.0.0.1:9464, or 'off', not {given!r}."
        )
    if given:
        return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)
    above = int(port) + _ABOVE
    return "127.0.0.1", above if int(port) and above <= 65535 else 0


async def _listen(exposition: Exposition, how: Telling) -> None:
    host, port = metrics_place(how.address, how.metrics_address)
    try:
        await exposition.start(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        if how.metrics_address:
            raise TellingError(
                f"Metrics can't be told at {how.metrics_address}: {why}. Choose another "
                "metrics_address; port 0 takes a free one, and 'off' does without."
            ) from None
        # Nobody chose this one: whatever holds it is no reason not to serve.
        _logger.warning(
            "%s:%d is taken: %s tells its metrics elsewhere. Set metrics_address to be found.",
            *(host, port, how.service),
        )
        await exposition.start(host, 0)


@contextlib.asynccontextmanager
async def _recording(how: Telling) -> AsyncGenerator[None]:
    if not how.otlp_endpoint:
        yield
        return
    if not how.otlp_endpoint.startswith(("http://", "https://")):
        raise TellingError(
            "The address that traces are sent to ([telemetry] otlp_endpoint, or "
            "OTEL_EXPORTER_OTLP_ENDPOINT) must be http://host:port or https://host:port, not "
            f"{how.otlp_endpoint!r}."
        )
    # The SDK takes a while to import: only processes that send traces do.
    from telemetry.otlp import OtlpRecorder

    recorder = OtlpRecorder(how.service, _version(), how.otlp_endpoint)
    tracing.record_with(recorder)
    _logger.info("%s sends its traces to %s", how.service, how.otlp_endpoint)
    try:
        yield
    finally:
        tracing.record_with(None)
        await asyncio.to_thread(recorder.close)


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:  # it runs from a folder that nobody installed
        return "0"
