"""Settings of what the edge tells of itself: logs and traces."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.settings_values import SettingsError
from telemetry.endpoint import EndpointError, otlp_endpoint


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[log]`: what is written to stderr."""

    level: str = "info"
    """debug, info, warning or error."""
    format: str = "console"
    """console or json."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """`[telemetry]`: where traces go."""

    otlp_endpoint: str = ""
    """A collector's address for gRPC. Empty: what `OTEL_…` variables say, else nowhere."""


def check(log: LogSettings) -> None:
    """Raises `SettingsError` for values that make no sense."""
    if log.level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"log.level must be debug, info, warning or error, not {log.level}")
    if log.format not in ("console", "json"):
        raise SettingsError(f"log.format must be console or json, not {log.format}")


def completed(given: TelemetrySettings, env: Mapping[str, str]) -> TelemetrySettings:
    """Fills in what OpenTelemetry's own variables say. Raises `SettingsError`."""
    try:
        return TelemetrySettings(otlp_endpoint(given.otlp_endpoint, env))
    except EndpointError as error:
        raise SettingsError(str(error)) from None
