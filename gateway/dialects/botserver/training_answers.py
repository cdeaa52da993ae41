"""Answers of the training service about jobs, translated. No I/O."""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from penstock.training.v1 import job_pb2

from gateway.dialects.botserver import training_schema as schema
from gateway.dialects.botserver.moments import moment
from gateway.dialects.botserver.training_translate import FILES, JOBS

_State = job_pb2.Job
_WORDS: Mapping[int, schema.TrainingWord] = {
    _State.STATE_VALIDATING_FILES: "queued",
    _State.STATE_QUEUED: "queued",
    _State.STATE_RUNNING: "running",
    _State.STATE_PAUSED: "paused",
    _State.STATE_SUCCEEDED: "completed",
    _State.STATE_FAILED: "failed",
    _State.STATE_CANCELLED: "cancelled",
}
_REQUESTED: Mapping[int, Literal["paused", "cancelled"]] = {
    _State.STATE_PAUSED: "paused",
    _State.STATE_CANCELLED: "cancelled",
}


def started(job: job_pb2.Job) -> schema.TrainingStarted:
    """Renders a job that was started."""
    return schema.TrainingStarted(**_facts(job))


def status(job: job_pb2.Job) -> schema.TrainingStatus:
    """Renders how a job stands."""
    return schema.TrainingStatus(
        **_facts(job),
        requested_status=_REQUESTED.get(job.requested_state),
        progress=job.progress,
        epoch=job.epoch,
        step=job.step,
        total_steps=job.step_count,
        # A loss that ran away is no number, and JSON knows no others.
        metrics={name: v for name, v in sorted(job.metrics.items()) if math.isfinite(v)},
        model_id=job.fine_tuned_model or None,
        error=_error(job.error) if job.HasField("error") else None,
        started_at=moment(job.start_time),
        finished_at=moment(job.end_time),
    )


def cancel_status(job: job_pb2.Job) -> int:
    """The HTTP status of a cancellation: whether it is done, or will be."""
    return 200 if job.state == _State.STATE_CANCELLED else 202


def _facts(job: job_pb2.Job) -> dict[str, Any]:
    job_id = job.name.removeprefix(JOBS)
    effective, asked = job.effective_hyperparameters, job.hyperparameters
    return {
        "id": job_id,
        "job_id": job_id,
        "status": _WORDS.get(job.state, "queued"),
        "base_model": job.base_model,
        "dataset": job.training_dataset or job.training_file.removeprefix(FILES),
        "epochs": effective.epoch_count or asked.epoch_count or None,
        "created_at": moment(job.create_time),
    }


def _error(error: job_pb2.JobError) -> str:
    """The message, with the place in the file where it doesn't tell it."""
    if not error.line or re.search(rf"\bline {error.line}\b", error.message, re.IGNORECASE):
        return error.message
    column = f", column {error.column}" if error.column else ""
    return f"{error.message} (line {error.line}{column})"
