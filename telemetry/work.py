"""What serving models tells: OpenTelemetry's metrics of generative AI, and what they lack.

Everything is told once a request, when it ends.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from prometheus_client import Counter, Histogram

from telemetry.registry import REGISTRY, SECONDS, models

PROVIDER = "penstock"
_OPERATIONS: Mapping[str, str] = MappingProxyType(
    {"Chat": "chat", "Complete": "text_completion", "Embed": "embeddings"}
)
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_FIRST_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0),
)
_NEXT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0, 2.5)
_WAIT_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = tuple(float(4**power) for power in range(11))

_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


def _histogram(
    name: str, text: str, bounds: tuple[float, ...], *more: str, labels: tuple[str, ...] = _LABELS
) -> Histogram:
    return Histogram(name, text, [*labels, *more], buckets=bounds, registry=REGISTRY)


DURATION = _histogram(
    "gen_ai_server_request_duration_seconds",
    "Time from a request's place in the queue to its end. error_type is empty where it succeeded.",
    SECONDS,
    "error_type",
)
FIRST_TOKEN = _histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "Time to the first token of requests that succeeded, with the time in the queue.",
    _FIRST_S,
)
NEXT_TOKEN = _histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Mean time of each token after the first, of requests that succeeded.",
    _NEXT_S,
)
TOKEN_USAGE = _histogram(
    "gen_ai_client_token_usage",
    "Tokens of a request, by gen_ai_token_type: input or output.",
    _TOKENS,
    "gen_ai_token_type",
)
QUEUE = _histogram(
    "penstock_queue_time_seconds", "Time that a request waited for the engine.", _WAIT_S,
    labels=("model",),
)  # fmt: skip
TOKENS = Counter(
    "penstock_tokens",
    "Tokens, by type: prompt, cached (those of prompts that needed no computing), completion.",
    ["model", "type"],
    registry=REGISTRY,
)
IMAGES = Counter("penstock_images", "Images that were drawn.", ["model"], registry=REGISTRY)


class Amounts(Protocol):
    """What a request used: tokens, images, seconds."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, or of inputs."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens that were generated."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that needed no computing."""
        ...

    @property
    def images(self) -> int:
        """Images that were drawn."""
        ...

    @property
    def queued_s(self) -> float:
        """Time in the queue."""
        ...

    @property
    def ran_s(self) -> float:
        """Time since then."""
        ...

    @property
    def first_token_s(self) -> float | None:
        """From its place in the queue to its first token."""
        ...

    @property
    def next_token_s(self) -> float | None:
        """Mean time of each token after the first."""
        ...


class _Series:
    """The series of one operation on one model. Finding them by their labels costs more than
    filling them."""

    def __init__(self, operation: str, model: str) -> None:
        name = models(model)
        labels = (operation, PROVIDER, name)
        self._labels = labels
        self.succeeded = DURATION.labels(*labels, "")
        self.first = FIRST_TOKEN.labels(*labels)
        self.next = NEXT_TOKEN.labels(*labels)
        self.input = TOKEN_USAGE.labels(*labels, "input")
        self.output = TOKEN_USAGE.labels(*labels, "output")
        self.queue = QUEUE.labels(name)
        self.prompt, self.cached, self.completion = (
            TOKENS.labels(name, kind) for kind in ("prompt", "cached", "completion")
        )
        self.images = IMAGES.labels(name)

    def duration(self, error: str) -> Histogram:
        """Returns the histogram of requests that ended so."""
        return DURATION.labels(*self._labels, error) if error else self.succeeded


@lru_cache(maxsize=128)
def operation_of(method: str) -> str:
    """Returns what OpenTelemetry calls the work of a method."""
    name = method.rpartition("/")[2].removeprefix("Stream")
    return _OPERATIONS.get(name) or _WORDS.sub("_", name).lower()


@lru_cache(maxsize=1024)
def _series(method: str, model: str) -> _Series:
    return _Series(operation_of(method), model)


def tell(method: str, model: str, error: str, used: Amounts) -> None:
    """Takes a request in that ended.

    Args:
        method: `penstock.inference.v1.InferenceService/Chat`.
        model: ID of a model that is served.
        error: of which kind its failure is; empty where it succeeded.
        used: what it used.
    """
    series = _series(method, model)
    series.duration(error).observe(used.queued_s + used.ran_s)
    series.queue.observe(used.queued_s)
    if not error:
        if used.first_token_s is not None:
            series.first.observe(used.first_token_s)
        if used.next_token_s is not None:
            series.next.observe(used.next_token_s)
    if used.prompt_tokens:
        series.input.observe(used.prompt_tokens)
        series.prompt.inc(used.prompt_tokens)
    if used.cached_tokens:
        series.cached.inc(used.cached_tokens)
    if used.completion_tokens:
        series.output.observe(used.completion_tokens)
        series.completion.inc(used.completion_tokens)
    if used.images:
        series.images.inc(used.images)
