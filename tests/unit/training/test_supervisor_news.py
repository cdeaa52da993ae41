"""What of a journal is told: all of it once, however it is cut and however often steps are done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

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
from services.training.job_records import (
    CheckpointWritten,
    DataSource,
    Job,
    JobSpec,
    JobState,
    Level,
    MetricsReport,
)
from services.training.supervisor_news import Marks, read_news

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    "ftjob-1", "me", JobSpec("base", DataSource("f")), JobState.RUNNING, "ft:b:o::x", NOW, NOW
)


@dataclass(frozen=True)
class Life:
    """What a worker does before it dies."""

    steps: int
    every: int
    keeps: int


def journal(lives: list[Life]) -> list[Record]:
    """Writes what workers write that die one by one, and go on from the last checkpoint."""
    records: list[Record] = []
    saved: list[int] = []
    for attempt, life in enumerate(lives, 1):
        records.append(Started(0.0, attempt, 1))
        records.append(Chosen(0.0, 100, 1, 2, 0.5, 0.0, 0.0, 64))
        first = saved[-1] + 1 if saved else 1
        for step in range(first, first + life.steps):
            records.append(Metrics(0.0, step, step / 100, {"train_loss": 1 / step}))
            if step % 2 == 0:
                records.append(Metrics(0.0, step, step / 100, {"valid_loss": 2 / step}))
            records.append(Progress(0.0, step, step / 100, 1.0))
            if step % life.every == 0:
                records.append(Saved(0.0, step, step / 100, {}, 1))
                saved.append(step)
                if len(saved) > life.keeps:
                    records.append(Dropped(0.0, saved.pop(0)))
    return records


lives = st.lists(
    st.builds(Life, st.integers(0, 12), st.integers(1, 6), st.integers(1, 3)),
    min_size=1,
    max_size=6,
)


@given(lives, st.data())
def test_everything_is_told_once_however_it_is_cut(lives: list[Life], data: st.DataObject) -> None:
    records = journal(lives)
    marks, job = Marks(), JOB
    checkpoints: dict[int, str] = {}
    written: list[str] = []
    told: list[tuple[int, str]] = []
    rest = records
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        part, rest = rest[:size], rest[size:]
        before = marks.copy()
        news = read_news(job, marks, part)
        if data.draw(st.booleans()):
            # The process died before that was kept: another one reads the same part again.
            marks = before.copy()
            news = read_news(job, marks, part)
        for step in news.dropped:
            checkpoints.pop(step, None)
        job, events, fresh = news.told(job)
        for checkpoint in fresh:
            assert checkpoint.step not in checkpoints
            checkpoints[checkpoint.step] = checkpoint.id
        for event in events:
            if isinstance(event.detail, MetricsReport):
                told += [(event.detail.step, name) for name in event.detail.metrics]
            if isinstance(event.detail, CheckpointWritten):
                written.append(event.detail.checkpoint_id)
    steps = {one.step for one in records if isinstance(one, Progress)}
    want = {(step, "train_loss") for step in steps}
    want |= {(step, "valid_loss") for step in steps if step % 2 == 0}
    assert len(told) == len(set(told))
    assert set(told) == want
    assert job.step == max(steps, default=0)
    assert set(checkpoints.values()) <= set(written)
    kept = set[int]()
    for record in records:
        if isinstance(record, Saved):
            kept.add(record.step)
        elif isinstance(record, Dropped):
            kept.discard(record.step)
    assert set(checkpoints) == kept == marks.saved


def test_deaths_are_counted_from_the_last_new_checkpoint() -> None:
    marks = Marks()
    read_news(JOB, marks, [Started(0.0, 1, 1)])
    assert marks.deaths(1) == 1
    read_news(JOB, marks, [Started(0.0, 2, 1)])
    assert marks.deaths(3) == 3, "those that died before they began are among them"
    read_news(JOB, marks, [Started(0.0, 4, 1), Saved(0.0, 5, 0.1, {}, 1)])
    assert marks.deaths(4) == 1
    # The same checkpoint again is no progress.
    read_news(JOB, marks, [Started(0.0, 5, 1), Saved(0.0, 5, 0.1, {}, 1)])
    assert marks.deaths(5) == 2
    read_news(JOB, marks, [Started(0.0, 6, 1), Ended(0.0, 6, "paused")])
    assert marks.deaths(7) == 1


def test_what_workers_choose_is_told_when_it_is_new() -> None:
    marks = Marks()
    chosen = Chosen(0.0, 100, 3, 2, 0.5, 0.1, 0.2, 64, "Trains 10 of 100 parameters.")
    job, events, _ = read_news(JOB, marks, [chosen]).told(JOB)
    [event] = events
    assert "100 steps" in event.message
    assert event.message.endswith("Trains 10 of 100 parameters.")
    assert job.effective is not None
    assert (job.step_count, job.effective.batch_size, job.effective.warmup_ratio) == (100, 2, 0.1)
    assert read_news(job, marks, [chosen]).told(job)[1] == []


def test_notes_and_the_time_that_is_left() -> None:
    notes = [Note(5.0, "warn", "Slow."), Note(6.0, "odd", "What?"), Progress(7.0, 3, 0.1, 60.0)]
    job, events, _ = read_news(JOB, Marks(), notes).told(JOB)
    assert [(one.level, one.message) for one in events] == [
        (Level.WARN, "Slow."),
        (Level.INFO, "What?"),
    ]
    assert job.estimated_end_time == datetime.fromtimestamp(67.0, UTC)
    job, _, _ = read_news(job, Marks(), [Progress(8.0, 2, 0.05)]).told(job)
    assert (job.step, job.epoch) == (3, 0.1), "a job never goes back"
