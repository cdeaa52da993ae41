"""What a process that serves models tells Prometheus of them, when it is asked."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from services.serving.models import Served
from services.serving.queues import Counts
from services.serving.registry import Registry
from telemetry.registry import Watched, models
from telemetry.tally import Tally

S = TypeVar("S", bound=Served[Any])


def watched(registry: Registry[S], count: Callable[[S], Counts]) -> Watched:
    """Watches the models of a registry."""
    return Watched(lambda: _families(registry, count))


def _families(registry: Registry[S], count: Callable[[S], Counts]) -> Iterable[Metric]:
    ready = _gauge("penstock_model_ready", "1 where a model serves, 0 where it is to and doesn't.")
    running = _gauge("penstock_requests_running", "Requests (of text: sequences) that run.")
    waiting = _gauge("penstock_requests_waiting", "Requests (of text: sequences) that wait.")
    kv = _gauge("penstock_kv_cache_usage_ratio", "Share of the attention memory that is held.")
    batch = _histogram("penstock_batch_size", "Sequences, inputs or images of each engine step.")
    step = _histogram("penstock_step_duration_seconds", "Time of each engine step.")
    cancel = _histogram(
        "penstock_cancel_latency_seconds",
        "Time from a request's cancellation to the engine step that computes nothing of it.",
    )
    for served in registry.served().values():
        labels = [models(served.id)]
        counts = count(served)
        ready.add_metric(labels, 1)
        running.add_metric(labels, counts.running)
        waiting.add_metric(labels, counts.waiting)
        if counts.kv_usage is not None:
            kv.add_metric(labels, counts.kv_usage)
        if counts.figures is not None:
            _add(batch, labels, counts.figures.batch)
            _add(step, labels, counts.figures.step_s)
            _add(cancel, labels, counts.figures.cancel_s)
    for known in registry.absent():
        ready.add_metric([models(known.id)], 0)
    return ready, running, waiting, kv, batch, step, cancel


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["model"])


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=["model"])


def _add(family: HistogramMetricFamily, labels: list[str], tally: Tally) -> None:
    family.add_metric(labels, buckets=tally.buckets(), sum_value=tally.total)
