"""What `penstock train` makes of its words, and of jobs and events."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from penstock.training.v1 import job_pb2
from penstock.training.v1.job_pb2 import JobError, JobEvent, MetricsReport, StateChange

from services.cli.failures import UsageFailure
from services.cli.train_course import Course, State, shortened, sparkline, state_word, time_left
from services.cli.train_request import (
    Examples,
    Wishes,
    examples_of,
    set_training,
    set_validation,
    to_job,
)
from services.cli.train_words import (
    bad_place,
    ended_text,
    error_text,
    event_text,
    job_facts,
    job_failure,
    job_name,
    job_rows,
)

FILE = "file-" + "a" * 24
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def wishes(**given: object) -> Wishes:
    nothing = dict.fromkeys(
        (
            *("epochs", "batch_size", "learning_rate", "beta"),
            *("rank", "seed", "priority", "checkpoint_steps"),
        )
    )
    texts = {"base": "b", "suffix": "", "method": "sft", "tuning": "lora"}
    return Wishes(**(nothing | texts | given))  # type: ignore[arg-type]


def as_dict(**given: object) -> dict[str, Any]:
    return json_format.MessageToDict(to_job(wishes(**given)), preserving_proto_field_name=True)


LEAST = {"base_model": "b", "supervised": {}, "lora": {}, "hyperparameters": {}}


@pytest.mark.parametrize(
    ("given", "job"),
    [
        ({}, {}),
        ({"suffix": "hours"}, {"suffix": "hours"}),
        ({"seed": 0}, {"seed": 0}),
        ({"epochs": 5, "batch_size": 4}, {"hyperparameters": {"epoch_count": 5, "batch_size": 4}}),
        ({"learning_rate": 0.5}, {"hyperparameters": {"learning_rate": 0.5}}),
        ({"rank": 8}, {"lora": {"rank": 8}}),
        ({"priority": "low"}, {"priority": "PRIORITY_LOW"}),
        ({"priority": "high"}, {"priority": "PRIORITY_HIGH"}),
        ({"checkpoint_steps": 3}, {"checkpoint_interval_steps": 3}),
    ],
)
def test_every_word_is_heard(given: dict[str, object], job: dict[str, Any]) -> None:
    assert as_dict(**given) == LEAST | job


def test_other_methods() -> None:
    expected = {"base_model": "b", "hyperparameters": {}}
    assert as_dict(method="dpo", beta=0.0, tuning="full") == expected | {
        "dpo": {"beta": 0.0},
        "full": {},
    }
    assert as_dict(method="dpo") == expected | {"dpo": {}, "lora": {}}


@pytest.mark.parametrize(
    ("given", "said"), [({"rank": 8, "tuning": "full"}, "--rank"), ({"beta": 0.1}, "--beta")]
)
def test_what_makes_no_sense(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageFailure, match=said):
        to_job(wishes(**given))


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "file-here").write_text("{}")
    (tmp_path / "folder").mkdir()
    assert examples_of("a.jsonl") == Examples(path=Path("a.jsonl"))
    assert examples_of("file-here") == Examples(path=Path("file-here"))
    assert examples_of(FILE) == Examples(file=f"files/{FILE}")
    assert examples_of(f"files/{FILE}") == Examples(file=f"files/{FILE}")
    assert examples_of("dataset:hours") == Examples(dataset="hours")
    assert [examples_of(word).text for word in ("a.jsonl", FILE, "dataset:hours")] == [
        *("a.jsonl", FILE, "hours")
    ]
    for wrong in ("b.jsonl", "folder", "dataset:", "", "x" * 5000, "a\0b", "files/", "files/x"):
        with pytest.raises(UsageFailure):
            examples_of(wrong)


def test_where_examples_go() -> None:
    job = job_pb2.Job()
    set_training(job, Examples(file="files/f"))
    set_validation(job, Examples(dataset="d"))
    assert (job.training_file, job.validation_dataset) == ("files/f", "d")
    set_training(job, Examples(dataset="e"))
    set_validation(job, Examples(file="files/g"))
    assert (job.training_dataset, job.validation_file) == ("e", "files/g")


def test_names() -> None:
    assert job_name("ftjob-1") == job_name("trainingJobs/ftjob-1") == "trainingJobs/ftjob-1"


def metrics(step: int, at_s: float, **values: float) -> JobEvent:
    event = JobEvent(metrics=MetricsReport(step=step, epoch=step / 10, metrics=values))
    event.create_time.FromNanoseconds(round(at_s * 1e9))
    return event


def change(to: State.State.ValueType) -> JobEvent:
    return JobEvent(state_change=StateChange(to=to))


def course(*events: JobEvent, **job: Any) -> Course:
    made = Course()
    made.see_job(job_pb2.Job(**({"state": State.STATE_RUNNING, "step_count": 100} | job)))
    for event in events:
        made.see(event)
    return made


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_course_tells_rate_and_time_left() -> None:
    seen = course(metrics(10, 100.0, train_loss=3.0), metrics(20, 105.0, train_loss=2.0))
    assert (seen.step, seen.epoch, seen.loss) == (20, 2.0, 2.0)
    assert seen.steps_per_s == pytest.approx(2.0)
    assert seen.remaining_s(NOW) == pytest.approx(40.0)


def test_what_the_service_expects_goes_first() -> None:
    end = Timestamp(seconds=int(NOW.timestamp()) + 90)
    seen = course(metrics(10, 100.0), metrics(20, 105.0), estimated_end_time=end)
    assert seen.remaining_s(NOW) == 90
    late = course(estimated_end_time=Timestamp(seconds=int(NOW.timestamp()) - 5))
    assert late.remaining_s(NOW) == 0


@pytest.mark.parametrize(
    "events",
    [
        (),
        (metrics(10, 1.0),),
        (metrics(10, 1.0), metrics(10, 2.0)),
        (metrics(10, 1.0), metrics(20, 1.0)),
        (metrics(10, 1.0), metrics(20, 2.0), change(State.STATE_RUNNING)),
        (metrics(20, 1.0), metrics(10, 2.0)),
    ],
)
def test_what_can_not_be_told_is_not(events: tuple[JobEvent, ...]) -> None:
    seen = course(*events)
    assert seen.steps_per_s is None
    assert seen.remaining_s(NOW) is None


def test_only_a_running_job_has_time_left() -> None:
    seen = course(metrics(10, 1.0), metrics(20, 2.0), state=State.STATE_PAUSED)
    assert seen.remaining_s(NOW) is None
    assert course(metrics(10, 1.0), metrics(20, 2.0), step_count=0).remaining_s(NOW) is None


def test_losses() -> None:
    told = course(metrics={"train_loss": 4.0, "valid_loss": 5.0})
    assert (told.loss, told.valid_loss, list(told.losses)) == (4.0, 5.0, [])
    told.see(metrics(1, 1.0, train_loss=3.0))
    told.see(metrics(2, 2.0, train_loss=math.nan))
    told.see(metrics(3, 3.0, valid_loss=2.5))
    assert (told.loss, told.valid_loss, list(told.losses)) == (3.0, 2.5, [3.0])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, 1.0], "▁▁"),
        ([8.0, 1.0], "█▁"),
        ([0.0, 3.5, 7.0], "▁▅█"),
        ([7.0, 7.0, 0.0, 0.0, 7.0, 7.0, 0.0, 0.0], "█▁█▁"),
    ],
)
def test_a_sparkline(values: list[float], line: str) -> None:
    assert sparkline(values, 4) == line


@given(st.lists(FLOATS, max_size=60), st.integers(1, 40))
def test_a_sparkline_fits(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) <= width
    assert len(shortened(values, width)) == min(len(values), width)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3599.9, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (172_800, "2 days"),
    ],
)
def test_spans(seconds: float, said: str) -> None:
    assert time_left(seconds) == said


def test_every_state_has_a_word() -> None:
    assert state_word(State.STATE_VALIDATING_FILES) == "validating files"
    assert len({state_word(state) for state in State.State.values()}) == len(State.State.values())


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (JobEvent(message="It\x1b[2J began\nwell."), "It[2J began well."),
        (JobEvent(message="Odd.", level=JobEvent.LEVEL_WARN), "warn: Odd."),
        (JobEvent(message="Bad.", level=JobEvent.LEVEL_ERROR), "error: Bad."),
        (change(State.STATE_QUEUED), "The job is queued now."),
        (JobEvent(checkpoint="trainingJobs/j/checkpoints/c"), "A checkpoint is written."),
        (
            JobEvent(
                metrics=MetricsReport(step=1200, epoch=1.5, metrics={"b": 1, "train_loss": 2})
            ),
            "step 1,200, epoch 1.50: train_loss 2, b 1",
        ),
    ],
)
def test_events(event: JobEvent, said: str) -> None:
    event.create_time.FromSeconds(1_700_000_000)
    assert event_text(event).plain == f"2023-11-14 22:13:20  {said}"
    assert event_text(event, dated=False).plain == f"22:13:20  {said}"


@pytest.mark.parametrize(
    ("error", "file", "said"),
    [
        (JobError(), "", ""),
        (JobError(line=7), "", "The bad line: line 7."),
        (JobError(line=7, column=3), "", "The bad line: line 7, column 3."),
        (JobError(line=7, message="Line 7: no JSON."), "", ""),
        (JobError(line=7, message="Line 71: no JSON."), "", "The bad line: line 7."),
        (JobError(line=7, message="Line 7: no JSON."), "a.jsonl", "The bad line: a.jsonl:7."),
        (JobError(line=7, column=3), "a.jsonl", "The bad line: a.jsonl:7:3."),
        (JobError(line=7), "a.jsonl", "The bad line: a.jsonl:7."),
        (
            JobError(line=7, column=3, bad_line_count=1200),
            "a.jsonl",
            "The first of 1,200 bad lines: a.jsonl:7:3.",
        ),
    ],
)
def test_the_place_of_a_bad_line(error: JobError, file: str, said: str) -> None:
    assert bad_place(error, file) == said


def test_a_job_that_failed() -> None:
    error = JobError(
        code="invalid_training_file", message="No JSON.", param="training_file", line=7, column=3
    )
    job = job_pb2.Job(name="trainingJobs/ftjob-1", state=State.STATE_FAILED, error=error)
    shown = job_failure(job).to_text().plain
    for part in ("ftjob-1 failed: No JSON.", "invalid_training_file", "line 7, column 3"):
        assert part in shown
    assert error_text(error) == "No JSON. The bad line: line 7, column 3."
    assert "no reason was given" in error_text(JobError())
    job.state = State.STATE_CANCELLED
    assert job_failure(job).message == "ftjob-1 was cancelled."


def test_a_row_and_all_facts() -> None:
    job = job_pb2.Job(
        name="trainingJobs/ftjob-1",
        state=State.STATE_RUNNING,
        base_model="base",
        training_file=f"files/{FILE}",
        step=5,
        step_count=20,
        progress=0.25,
        epoch=0.5,
        metrics={"train_loss": 1.25},
        requested_state=State.STATE_PAUSED,
        lora=job_pb2.LoraTuning(rank=4),
        hyperparameters=job_pb2.Hyperparameters(epoch_count=2, learning_rate=0.001),
    )
    [row] = job_rows([job])
    assert [str(cell) for cell in row] == [
        *("ftjob-1", "running", "base", "25%", "1.250", "", "being paused")
    ]
    facts = {name: str(value) for name, value in job_facts(job).items() if str(value)}
    assert facts == {
        "job": "ftjob-1",
        "state": "running, being paused",
        "base": "base",
        "examples": FILE,
        "method": "sft, lora",
        "steps": "5 of 20 (25%)",
        "epoch": "0.50 of 2",
        "metrics": "train_loss 1.25",
        "parameters": "epoch_count 2, learning_rate 0.001, rank 4",
    }


def test_what_a_job_took() -> None:
    job = job_pb2.Job(step=1200, trained_token_count=5000)
    job.start_time.FromSeconds(100)
    job.end_time.FromSeconds(190)
    assert ended_text(job) == "1,200 steps, 5,000 tokens, 1 min 30 s"
    job.ClearField("trained_token_count")
    assert ended_text(job) == "1,200 steps, 1 min 30 s"
