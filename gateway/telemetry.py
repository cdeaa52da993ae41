"""What the edge tells of its requests: metrics, spans, and a line in the log.

Everything is told when a request begins, when its answer does, and when it ends; never in between,
where tokens pass.
"""

import logging
import time
from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.context import RequestContext, context_of
from gateway.errors import KINDS
from gateway.steps import StepClient
from telemetry.registry import OTHER, REGISTRY, SHORT_SECONDS, Watched

UNMATCHED = "unmatched"
"""Route of requests for which there is none."""
CLIENT_GONE = "CLIENT_GONE"
"""Why a request ended whose client left."""

_GONE_STATUS = 499
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_ABOUT = ["http_request_method", "http_route", "http_response_status_code"]
_access = logging.getLogger("penstock.access")

DURATION = Histogram(
    "http_server_request_duration_seconds",
    "Time from a request's head to the end of its answer, streams included. The status is 499 "
    "where the client left before there was one.",
    _ABOUT,
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
FIRST_BYTE = Histogram(
    "penstock_http_time_to_first_byte_seconds",
    "Time from a request's head to the head of its answer, errors left out. Of streams, that goes "
    "out with the first token.",
    _ABOUT[:2],
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
ERRORS = Counter(
    "penstock_http_errors",
    "Requests that failed, by dialect and by reason: those of penstock.errors.v1.ErrorReason, the "
    "edge's own, and CLIENT_GONE.",
    ["dialect", "reason"],
    registry=REGISTRY,
)
STREAM_ERRORS = Counter(
    "penstock_http_stream_errors",
    "Streams that failed after their answer had begun, by reason.",
    ["reason"],
    registry=REGISTRY,
)
for _reason in KINDS:  # a series that begins with its first error hides that error from `rate`
    STREAM_ERRORS.labels(_reason)
ACTIVE = Gauge(
    "http_server_active_requests", "Requests that are being answered.", registry=REGISTRY
)


def routed(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Has each route noted by the requests that take it."""
    found = list(routes)
    for route in found:
        if isinstance(route, Route):
            route.app = _Noted(route.app, route.path)
    return found


class _Noted:
    """An application whose requests know their route."""

    def __init__(self, app: ASGIApp, route: str) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context_of(scope).route = self._route
        await self._app(scope, receive, send)


def begun(context: RequestContext) -> None:
    """Takes a request in that begins. What the edge asks of itself does not count."""
    if not context.background:
        ACTIVE.inc()


def answering(context: RequestContext, method: str, status: int) -> None:
    """Takes in that an answer begins."""
    context.status = status
    if status < 400 and not context.background:
        seconds = time.perf_counter() - context.started
        _first_byte(_method(method), context.route or UNMATCHED).observe(seconds)


def ended(context: RequestContext, method: str) -> None:
    """Takes a request in that ended."""
    seconds = time.perf_counter() - context.started
    method, route = _method(method), context.route or UNMATCHED
    status = context.status or _GONE_STATUS
    if not context.background:
        ACTIVE.dec()
        _duration(method, route, status).observe(seconds)
        if context.failure:
            ERRORS.labels(context.envelope, context.failure).inc()
    span = context.span
    if span.recorded:
        span.note(
            {
                "http.route": route,
                "http.response.status_code": status,
                "penstock.dialect": context.dialect,
            }
        )
    error = context.failure if status >= 500 or context.failure == CLIENT_GONE else ""
    span.end(error, name=f"{method} {route}")
    if _access.isEnabledFor(logging.DEBUG):
        _log(context, method, route, status, seconds)


def stream_failed(reason: str) -> None:
    """Takes in that a stream failed after its answer had begun."""
    STREAM_ERRORS.labels(reason).inc()


def watched(steps: StepClient) -> Watched:
    """Watches the stream to the inference service."""

    def look() -> Iterable[Metric]:
        running = GaugeMetricFamily(
            "penstock_step_stream_requests", "Requests on the stream to the inference service."
        )
        running.add_metric([], steps.live_count)
        breaks = CounterMetricFamily(
            "penstock_step_stream_breaks",
            "Times that the stream to the inference service broke while requests were on it.",
        )
        breaks.add_metric([], steps.break_count)
        return running, breaks

    return Watched(look)


@lru_cache(maxsize=4096)
def _duration(method: str, route: str, status: int) -> Histogram:
    return DURATION.labels(method, route, str(status))


@lru_cache(maxsize=1024)
def _first_byte(method: str, route: str) -> Histogram:
    return FIRST_BYTE.labels(method, route)


def _method(method: str) -> str:
    """Clients may make up methods."""
    return method if method in _METHODS else OTHER


def _log(context: RequestContext, method: str, route: str, status: int, seconds: float) -> None:
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1e3, 3),
        "dialect": context.dialect,
        "reason": context.failure,
        "principal": context.principal.id,
    }
    _access.debug("%s %s %d %.1f ms", method, route, status, seconds * 1e3, extra=fields)
