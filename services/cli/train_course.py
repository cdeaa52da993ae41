"""How a training goes, as far as a watcher has been told."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from penstock.training.v1 import job_pb2

State = job_pb2.Job
ENDED = frozenset({State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED})

LOSS = "train_loss"
VALID_LOSS = "valid_loss"

_BARS = "▁▂▃▄▅▆▇█"
_RATE_REPORTS = 20
"""Reports that a rate is taken over."""
_MOST_LOSSES = 4096


class Course:
    """What is known of a job that runs. Takes events in order; does no I/O."""

    def __init__(self) -> None:
        self.job = job_pb2.Job()
        self.step = 0
        self.epoch = 0.0
        self.losses = deque[float](maxlen=_MOST_LOSSES)
        self._valid_loss: float | None = None
        self._reports = deque[tuple[float, int]](maxlen=_RATE_REPORTS)
        """Time and step of reports of one uninterrupted run."""

    def see_job(self, job: job_pb2.Job) -> None:
        """Takes the job as it is."""
        self.job.CopyFrom(job)
        self.step, self.epoch = job.step, job.epoch

    def see(self, event: job_pb2.JobEvent) -> None:
        """Takes what happened."""
        kind = event.WhichOneof("detail")
        if kind == "state_change":
            self.job.state = event.state_change.to
            self._reports.clear()
        elif kind == "metrics":
            report = event.metrics
            self.step, self.epoch = max(self.step, report.step), max(self.epoch, report.epoch)
            if LOSS in report.metrics:
                self._see_loss(report.metrics[LOSS])
            if VALID_LOSS in report.metrics:
                self._valid_loss = report.metrics[VALID_LOSS]
            time = event.create_time.ToNanoseconds() / 1e9
            if self._reports and report.step < self._reports[-1][1]:
                self._reports.clear()  # it goes on from a checkpoint
            self._reports.append((time, report.step))

    @property
    def loss(self) -> float | None:
        """The latest loss; None while there is none."""
        return self.losses[-1] if self.losses else self._told(LOSS)

    @property
    def valid_loss(self) -> float | None:
        """The latest loss on the validation data; None while there is none."""
        return self._told(VALID_LOSS) if self._valid_loss is None else self._valid_loss

    @property
    def steps_per_s(self) -> float | None:
        """Steps in a second, lately; None while that can't be told."""
        if len(self._reports) < 2:
            return None
        (first_s, first), (last_s, last) = self._reports[0], self._reports[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def remaining_s(self, now: datetime) -> float | None:
        """Seconds until it is done, as expected; None while that can't be told."""
        if self.job.state != State.STATE_RUNNING:
            return None
        if self.job.HasField("estimated_end_time"):
            end = self.job.estimated_end_time.ToDatetime(tzinfo=UTC)
            return max(0.0, (end - now).total_seconds())
        rate = self.steps_per_s
        if rate is None or not self.job.step_count:
            return None
        return max(0, self.job.step_count - self.step) / rate

    def _told(self, name: str) -> float | None:
        return self.job.metrics.get(name)

    def _see_loss(self, loss: float) -> None:
        if math.isfinite(loss):
            self.losses.append(loss)


def sparkline(values: Iterable[float], width: int) -> str:
    """Draws numbers as a line of small bars; of more than `width`, means of neighbours."""
    points = shortened(list(values), width)
    if len(points) < 2:
        return ""
    least, most = min(points), max(points)
    span = most - least
    if not math.isfinite(span) or span <= 0:
        return _BARS[0] * len(points)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - least) / span * top)] for value in points)


def shortened(values: Sequence[float], width: int) -> list[float]:
    """Returns at most `width` means of values that stand together."""
    count = len(values)
    if count <= width:
        return list(values)
    edges = [index * count // width for index in range(width + 1)]
    return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]


def state_word(state: int) -> str:
    """Returns a state as one lower-case word or two."""
    return State.State.Name(state).removeprefix("STATE_").lower().replace("_", " ")  # type: ignore[arg-type]


def wish_word(job: job_pb2.Job) -> str:
    """Says what was asked of a job and isn't done yet; empty when nothing was."""
    return {State.STATE_CANCELLED: "being cancelled", State.STATE_PAUSED: "being paused"}.get(
        job.requested_state, ""
    )


def time_left(seconds: float) -> str:
    """Writes a span as people say it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"
