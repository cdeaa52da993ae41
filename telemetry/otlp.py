"""Records spans with OpenTelemetry's SDK, and sends them by OTLP. Imported only where that is
wanted: it brings a second copy of gRPC's machinery to life.

The SDK reads the standard `OTEL_…` variables by itself: headers, certificates, time limits, the
sampler, and what else the resource says.
"""

import secrets
import socket
import threading
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)

from telemetry.tracing import Attributes, Span, Trace

_LAST_WORDS_S = 2.0


class OtlpRecorder:
    """Records the spans of a process."""

    def __init__(self, service: str, version: str, endpoint: str) -> None:
        """Sends to `endpoint`, `http://host:4317` or `https://…`."""
        own = Resource.create(
            {
                "service.name": f"penstock-{service}",
                "service.namespace": "penstock",
                "service.version": version,
                "service.instance.id": f"{service}-{socket.gethostname()}-{secrets.token_hex(4)}",
            }
        )
        # What the environment says of the resource goes before what we think of it.
        self._provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._exporter: Any = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("penstock", version)

    def begin(self, name: str, came: Trace | None, attributes: Attributes) -> tuple[Trace, Span]:
        """Begins the span of a request that came in."""
        parent = Context() if came is None else _remote(came)
        span = self._tracer.start_span(
            name, parent, SpanKind.SERVER, attributes, set_status_on_exception=False
        )
        return _begun(self._tracer, span, came)

    def close(self) -> None:
        """Sends what is left, if that does not take long. Blocks."""
        # The SDK tries again and again, and its own time limits don't hold: this ends the trying.
        enough = threading.Timer(_LAST_WORDS_S, self._exporter.shutdown)
        enough.daemon = True
        enough.start()
        self._provider.shutdown()
        enough.cancel()


class _Recorded:
    """A span of the SDK."""

    def __init__(self, tracer: api.Tracer, span: api.Span, trace: Trace) -> None:
        self._tracer = tracer
        self._span = span
        self._trace = trace
        self.recorded = span.is_recording()

    def note(self, attributes: Attributes) -> None:
        """Tells more of it."""
        if self.recorded:
            self._span.set_attributes(dict(attributes))

    def child(self, name: str, attributes: Attributes) -> tuple[Trace, Span]:
        """Begins a part of it."""
        parent = api.set_span_in_context(self._span, Context())
        span = self._tracer.start_span(name, parent, SpanKind.INTERNAL, attributes)
        return _begun(self._tracer, span, self._trace)

    def end(self, error: str = "", *, name: str = "") -> None:
        """Ends it."""
        if name:
            self._span.update_name(name)
        if error and self.recorded:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _begun(tracer: api.Tracer, span: api.Span, before: Trace | None) -> tuple[Trace, Span]:
    context = span.get_span_context()
    place = Trace(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        None if before is None else before.span_id,
        f"{int(context.trace_flags):02x}",
        "" if before is None else before.state,
    )
    return place, _Recorded(tracer, span, place)


def _remote(came: Trace) -> Context:
    state: Any = TraceState.from_header([came.state]) if came.state else None
    context = SpanContext(
        int(came.trace_id, 16),
        int(came.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(came.flags, 16)),
        trace_state=state,
    )
    return api.set_span_in_context(NonRecordingSpan(context), Context())
