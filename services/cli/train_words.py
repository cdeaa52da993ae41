"""Jobs, events and checkpoints as people read them."""

import re
from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from penstock.training.v1 import job_pb2
from rich.text import Text

from services.cli.documents import size_text
from services.cli.failures import Failure
from services.cli.output import printable
from services.cli.train_course import LOSS, State, state_word, time_left, wish_word

_STYLES = {
    State.STATE_RUNNING: "cyan",
    State.STATE_SUCCEEDED: "green",
    State.STATE_FAILED: "red",
    State.STATE_PAUSED: "yellow",
    State.STATE_CANCELLED: "dim",
}
_LEVELS = {job_pb2.JobEvent.LEVEL_WARN: "warn", job_pb2.JobEvent.LEVEL_ERROR: "error"}
_LEVEL_STYLES = {"warn": "yellow", "error": "red"}
_JOBS = "trainingJobs/"
_FILES = "files/"


def job_name(word: str) -> str:
    """Returns the resource name of a job, of its ID or its name."""
    return _JOBS + word.removeprefix(_JOBS)


def job_id(job: job_pb2.Job) -> str:
    """Returns the ID of a job."""
    return job.name.removeprefix(_JOBS)


def state_text(state: int) -> Text:
    """Returns a state in its colour."""
    return Text(state_word(state), style=_STYLES.get(state, ""))  # type: ignore[call-overload]


def job_rows(jobs: Iterable[job_pb2.Job]) -> Iterator[tuple[str | Text, ...]]:
    """Returns one row per job."""
    for job in jobs:
        loss = job.metrics.get(LOSS)
        yield (
            Text(printable(job_id(job)), style="bold"),
            state_text(job.state),
            printable(job.base_model),
            f"{job.progress:.0%}" if job.step_count else "",
            f"{loss:.3f}" if loss is not None else "",
            time_text(job.create_time),
            printable(job.fine_tuned_model or job.error.message or wish_word(job)),
        )


def job_facts(job: job_pb2.Job) -> dict[str, str | Text]:
    """Returns everything about one job."""
    method = "dpo" if job.HasField("dpo") else "sft"
    tuning = "full" if job.HasField("full") else "lora"
    steps = f"{job.step:,} of {job.step_count:,} ({job.progress:.0%})" if job.step_count else ""
    facts = {
        "base": job.base_model,
        "examples": job.training_dataset or job.training_file.removeprefix(_FILES),
        "validation": job.validation_dataset or job.validation_file.removeprefix(_FILES),
        "method": f"{method}, {tuning}",
        "steps": steps,
        "epoch": f"{job.epoch:.2f} of {_epochs(job)}" if job.step_count else "",
        "metrics": metrics_text(job.metrics),
        "parameters": _parameters(job),
        "seed": str(job.seed) if job.HasField("seed") else "",
        "tokens": f"{job.trained_token_count:,}" if job.HasField("trained_token_count") else "",
        "result": job.fine_tuned_model,
        "error": error_text(job.error) if job.HasField("error") else "",
        "restarts": str(job.restart_count or ""),
        "owner": job.owner,
        "created": time_text(job.create_time),
        "started": time_text(job.start_time),
        "expected": time_text(job.estimated_end_time) if not job.HasField("end_time") else "",
        "ended": time_text(job.end_time),
    }
    known = {name: printable(value) for name, value in facts.items()}
    state = state_text(job.state)
    if wish := wish_word(job):
        state.append(f", {wish}")
    return {"job": printable(job_id(job)), "state": state, **known}


def checkpoint_rows(found: Iterable[job_pb2.Checkpoint]) -> Iterator[tuple[str | Text, ...]]:
    """Returns one row per checkpoint."""
    for checkpoint in found:
        yield (
            f"{checkpoint.step:,}",
            f"{checkpoint.epoch:.2f}",
            metrics_text(checkpoint.metrics),
            size_text(checkpoint.size_bytes),
            time_text(checkpoint.create_time),
            Text(printable(checkpoint.model), style="bold"),
        )


def event_text(event: job_pb2.JobEvent, *, dated: bool = True) -> Text:
    """Returns one line about what happened."""
    moment = event.create_time.ToDatetime()
    time = f"{moment:%Y-%m-%d %H:%M:%S}" if dated else f"{moment:%H:%M:%S}"
    level = _LEVELS.get(event.level, "")
    return Text.assemble(
        (time, "dim"), "  ", (f"{level}: " if level else "") + _said(event),
        style=_LEVEL_STYLES.get(level, ""),
    )  # fmt: skip


def _said(event: job_pb2.JobEvent) -> str:
    kind = event.WhichOneof("detail")
    if kind == "metrics":
        report = event.metrics
        return f"step {report.step:,}, epoch {report.epoch:.2f}: {metrics_text(report.metrics)}"
    if event.message:
        return " ".join(printable(event.message).split())
    if kind == "state_change":
        return f"The job is {state_word(event.state_change.to)} now."
    return "A checkpoint is written." if kind == "checkpoint" else ""


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Writes metrics, the losses first."""
    names = sorted(metrics, key=lambda name: (not name.endswith("_loss"), name))
    return ", ".join(f"{printable(name)} {metrics[name]:.4g}" for name in names)


def error_text(error: job_pb2.JobError, file: str = "") -> str:
    """Says why a job failed, and where its file is wrong."""
    said = error.message or error.code or "no reason was given"
    place = bad_place(error, file)
    return f"{said} {place}" if place else said


def bad_place(error: job_pb2.JobError, file: str = "") -> str:
    """Says where the first bad line of a file is; empty when none is at fault, or the message has
    said it.

    Of a `file` that lies here, terminals make it a link.
    """
    if not error.line:
        return ""
    if not file and re.search(rf"\bline {error.line}\b", error.message, re.IGNORECASE):
        return ""
    if file:
        place = ":".join(str(part) for part in (file, error.line, error.column) if part)
    else:
        column = f", column {error.column}" if error.column else ""
        place = f"line {error.line}{column}"
    if error.bad_line_count > 1:
        return f"The first of {error.bad_line_count:,} bad lines: {place}."
    return f"The bad line: {place}."


def job_failure(job: job_pb2.Job, file: str = "") -> Failure:
    """Returns what a command says that waited for a job which did not succeed."""
    if job.state == State.STATE_CANCELLED:
        return Failure(f"{job_id(job)} was cancelled.")
    error = job.error
    return Failure(
        f"{job_id(job)} failed: {error.message or 'no reason was given'}",
        hint=bad_place(error, file),
        reason=error.code,
        field=error.param,
    )


def ended_text(job: job_pb2.Job) -> str:
    """Says what a job took that has succeeded."""
    facts = [f"{job.step:,} steps"]
    if job.HasField("trained_token_count"):
        facts.append(f"{job.trained_token_count:,} tokens")
    facts.append(time_left(job.end_time.seconds - job.start_time.seconds))
    return ", ".join(facts)


def time_text(moment: Timestamp) -> str:
    """Writes a time; empty for one that is not set."""
    return f"{moment.ToDatetime():%Y-%m-%d %H:%M:%S} UTC" if moment.seconds else ""


def _epochs(job: job_pb2.Job) -> int | str:
    chosen = job.effective_hyperparameters.epoch_count or job.hyperparameters.epoch_count
    return chosen or "?"


def _parameters(job: job_pb2.Job) -> str:
    chosen = job.effective_hyperparameters
    if not chosen.ListFields():
        chosen = job.hyperparameters
    facts = [f"{name.name} {value:g}" for name, value in chosen.ListFields()]
    if job.HasField("lora") and job.lora.rank:
        facts.append(f"rank {job.lora.rank}")
    return ", ".join(facts)
