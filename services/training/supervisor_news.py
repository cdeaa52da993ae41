"""What the records of a journal have to tell that was not told before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from services.training.folder import (
    Chosen,
    Dropped,
    Ended,
    Metrics,
    Note,
    Progress,
    Record,
    Saved,
    Started,
)
from services.training.job_names import checkpoint_model_id, new_checkpoint_id
from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    Hyperparameters,
    Job,
    Level,
    MetricsReport,
    NewEvent,
)

_LEVELS: Final = {level.value: level for level in Level}


@dataclass(slots=True)
class Marks:
    """What a part of a journal has told, from its beginning."""

    offset: int = 0
    attempt: int = 0
    """Of the worker that began last."""
    first: int = 1
    """The first attempt since the training got on: those from it to the present one died."""
    measured: dict[str, int] = field(default_factory=dict[str, int])
    """For each metric the last step of which it was told."""
    saved: set[int] = field(default_factory=set[int])
    """Steps of checkpoints that are there."""
    furthest: int = -1
    """Step of the newest checkpoint there ever was."""

    def copy(self) -> "Marks":
        """Returns another that grows by itself."""
        return replace(self, measured=dict(self.measured), saved=set(self.saved))

    def deaths(self, attempt: int) -> int:
        """How many workers died in a row, where that of this attempt has."""
        return attempt - self.first + 1


@dataclass(slots=True)
class News:
    """What some records have to tell."""

    step: int = 0
    epoch: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    chosen: Chosen | None = None
    end: datetime | None = None
    events: list[NewEvent] = field(default_factory=list[NewEvent])
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict[int, Checkpoint])
    """New ones by step."""
    dropped: set[int] = field(default_factory=set[int])
    """Steps of those that are gone."""

    def drop(self, step: int) -> None:
        """Notes that a checkpoint is gone, which may be one of the new."""
        self.dropped.add(step)
        checkpoint = self.checkpoints.pop(step, None)
        if checkpoint is not None:
            written = CheckpointWritten(checkpoint.id)
            self.events = [
                replace(event, detail=None) if event.detail == written else event
                for event in self.events
            ]

    def told(self, job: Job) -> tuple[Job, Sequence[NewEvent], Sequence[Checkpoint]]:
        """Returns the job with the news."""
        job = replace(
            job,
            # After a crash some steps are done again: a job never goes back.
            step=max(self.step, job.step),
            epoch=max(self.epoch, job.epoch),
            metrics={**job.metrics, **self.metrics},
            estimated_end_time=self.end or job.estimated_end_time,
        )
        events = self.events
        if self.chosen is not None:
            effective = _effective(self.chosen)
            if effective != job.effective or self.chosen.step_count != job.step_count:
                events = [_chosen_event(self.chosen), *events]
            job = replace(job, effective=effective, step_count=self.chosen.step_count)
        return job, events, list(self.checkpoints.values())


def read_news(job: Job, marks: Marks, records: Sequence[Record]) -> News:
    """Returns what is new in records that follow what the marks have seen, and marks them."""
    news = News()
    for record in records:
        _take(job, marks, news, record)
    return news


def _take(job: Job, marks: Marks, news: News, record: Record) -> None:
    match record:
        case Started():
            marks.attempt = max(marks.attempt, record.attempt)
        case Chosen():
            news.chosen = record
        case Progress():
            news.step = max(news.step, record.step)
            news.epoch = max(news.epoch, record.epoch)
            if record.remaining_s is not None:
                news.end = _time(record.time) + timedelta(seconds=record.remaining_s)
        case Metrics():
            _take_metrics(marks, news, record)
        case Saved():
            _take_saved(job, marks, news, record)
        case Dropped():
            marks.saved.discard(record.step)
            news.drop(record.step)
        case Note():
            level = _LEVELS.get(record.level, Level.INFO)
            news.events.append(NewEvent(level, record.message, None, _time(record.time)))
        case Ended():
            if record.outcome == "paused":
                marks.first = max(marks.first, record.attempt + 1)


def _take_metrics(marks: Marks, news: News, record: Metrics) -> None:
    fresh = {
        name: value
        for name, value in record.metrics.items()
        if marks.measured.get(name, -1) < record.step
    }
    if not fresh:
        return
    marks.measured.update(dict.fromkeys(fresh, record.step))
    news.metrics.update(fresh)
    news.events.append(
        NewEvent(
            Level.INFO,
            _measured(record.step, fresh),
            MetricsReport(record.step, record.epoch, fresh),
            _time(record.time),
        )
    )


def _take_saved(job: Job, marks: Marks, news: News, record: Saved) -> None:
    if record.step > marks.furthest:
        marks.furthest = record.step
        marks.first = max(marks.first, marks.attempt)
    if record.step in marks.saved:
        return
    marks.saved.add(record.step)
    news.dropped.discard(record.step)
    checkpoint = Checkpoint(
        id=new_checkpoint_id(),
        job_id=job.id,
        create_time=_time(record.time),
        step=record.step,
        epoch=record.epoch,
        metrics=record.metrics,
        model_id=checkpoint_model_id(job.model_id, record.step),
        size_bytes=record.size_bytes,
    )
    news.checkpoints[record.step] = checkpoint
    news.events.append(
        NewEvent(
            Level.INFO,
            f"A checkpoint was written at step {record.step}: {checkpoint.model_id}",
            CheckpointWritten(checkpoint.id),
            checkpoint.create_time,
        )
    )


def _effective(chosen: Chosen) -> Hyperparameters:
    return Hyperparameters(
        epoch_count=chosen.epoch_count,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        warmup_ratio=chosen.warmup_ratio,
        weight_decay=chosen.weight_decay,
        max_sequence_tokens=chosen.max_sequence_tokens,
    )


def _chosen_event(chosen: Chosen) -> NewEvent:
    text = (
        f"Trains {chosen.step_count} steps: {chosen.epoch_count} epochs, {chosen.batch_size} "
        f"examples a step, learning rate {chosen.learning_rate:g}."
    )
    return NewEvent(Level.INFO, f"{text} {chosen.words}".strip(), None, _time(chosen.time))


def _measured(step: int, metrics: Mapping[str, float]) -> str:
    values = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in sorted(metrics.items())
    )
    return f"Step {step}: {values}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
