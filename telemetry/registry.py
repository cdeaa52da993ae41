"""The metrics of this process, in one place.

A label takes few values, all of them known to the platform: callers can't make series. Names follow
OpenTelemetry's conventions in the form that Prometheus gives them (`gen_ai.server.request.duration`
in seconds is `gen_ai_server_request_duration_seconds`), and begin with `penstock_` where there is
no convention.
"""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric

disable_created_metrics()  # a second series for each of the first, which nobody asks for
REGISTRY = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

OTHER = "_OTHER"
"""What a label says in place of one value too many."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bounds that OpenTelemetry's conventions advise for the duration of requests."""
SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
"""For calls of any kind."""

_BUILD = Gauge(
    "penstock_build_info",
    "1; its labels say what runs here.",
    ["service", "version"],
    registry=REGISTRY,
)
_MOST_MODELS = 256


class Known:
    """Values of a label, as many as may be."""

    def __init__(self, most: int = _MOST_MODELS) -> None:
        self._most = most
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """Returns the value, or `_OTHER` once there are enough."""
        if value in self._values:
            return value
        if len(self._values) >= self._most:
            return OTHER
        self._values.add(value)
        return value


models = Known()
"""For the IDs of models that this process serves, or did."""


class Watched:
    """Metrics that are looked up when somebody asks for them, on the event loop."""

    def __init__(self, look: Callable[[], Iterable[Metric]]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """Looks."""
        return self._look()

    def __enter__(self) -> "Watched":
        REGISTRY.register(_collector(self))
        return self

    def __exit__(self, *_: object) -> None:
        REGISTRY.unregister(_collector(self))


def build_info(service: str, version: str) -> None:
    """Tells what runs in this process."""
    _BUILD.labels(service, version).set(1)


def _collector(watched: Watched) -> Any:
    return watched  # has `collect`, which is all that the library asks for
