"""Where traces go, as settings and OpenTelemetry's own variables say."""

from collections.abc import Mapping

_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


class EndpointError(ValueError):
    """Traces can't be sent as the variables say. The message says what to do."""


def otlp_endpoint(given: str, env: Mapping[str, str]) -> str:
    """Returns the setting, else what the `OTEL_…` variables say; empty for nowhere.

    Raises `EndpointError`.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if env.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return ""
    named = (f"OTEL_EXPORTER_OTLP_{what}ENDPOINT" for what in ("TRACES_", ""))
    endpoint = given or next((env[name] for name in named if env.get(name)), "")
    if not endpoint:
        return ""
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get(_PROTOCOL) or "grpc"
    if protocol != "grpc":
        raise EndpointError(
            f"{_PROTOCOL}: traces are sent by gRPC only, not {protocol!r}; take the collector's "
            "port for gRPC (4317) and leave the variable out"
        )
    return endpoint
