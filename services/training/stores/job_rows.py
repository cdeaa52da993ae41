"""Rows to jobs, events and checkpoints, and back."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    DataSource,
    Dpo,
    Full,
    Hyperparameters,
    Job,
    JobError,
    JobEvent,
    JobSpec,
    JobState,
    Level,
    Lora,
    MetricsReport,
    Priority,
    StateChange,
    Supervised,
)

_T = TypeVar("_T")
_METHODS: dict[str, type[Supervised] | type[Dpo]] = {"supervised": Supervised, "dpo": Dpo}
_TUNINGS: dict[str, type[Lora] | type[Full]] = {"lora": Lora, "full": Full}
_DETAILS: dict[str, type[StateChange] | type[MetricsReport] | type[CheckpointWritten]] = {
    "state_change": StateChange,
    "metrics": MetricsReport,
    "checkpoint": CheckpointWritten,
}
_SAME = (
    "epoch",
    "step",
    "step_count",
    "trained_token_count",
    "restart_count",
    "attempt",
    "journal_offset",
    "checked",
    "create_time",
    "update_time",
    "start_time",
    "end_time",
    "estimated_end_time",
)
"""Fields of a job that are columns as they are."""


def job_row(job: Job) -> dict[str, Any]:
    """Returns the columns of a job, but for those that only the store knows."""
    spec = job.spec
    row = {name: getattr(job, name) for name in _SAME}
    return row | {
        "id": job.id,
        "owner": job.owner,
        "state": job.state.value,
        "requested_state": job.requested_state and job.requested_state.value,
        "priority": spec.priority.value,
        "model_id": job.model_id,
        "training_file": spec.training.file_id or None,
        "validation_file": (spec.validation and spec.validation.file_id) or None,
        "spec": _text(_spec(spec)),
        "effective": _optional(job.effective),
        "metrics": _text(dict(job.metrics)),
        "result_files": _text(list(job.result_files)),
        "error": _optional(job.error),
    }


def to_job(row: Mapping[Any, Any]) -> Job:
    """Reads a job."""
    effective, error, requested = row["effective"], row["error"], row["requested_state"]
    return Job(
        id=row["id"],
        owner=row["owner"],
        spec=_to_spec(json.loads(row["spec"])),
        state=JobState(row["state"]),
        model_id=row["model_id"],
        requested_state=None if requested is None else JobState(requested),
        effective=None if effective is None else _read(effective, Hyperparameters),
        metrics=json.loads(row["metrics"]),
        result_files=tuple(json.loads(row["result_files"])),
        error=None if error is None else _read(error, JobError),
        **{name: row[name] for name in _SAME},
    )


def request_hash(asked: JobSpec) -> str:
    """Returns what tells requests apart."""
    return hashlib.sha256(json.dumps(_spec(asked), sort_keys=True).encode()).hexdigest()


def event_row(event: JobEvent) -> dict[str, Any]:
    """Returns the columns of an event."""
    return {
        "id": event.id,
        "job": event.job_id,
        "number": event.number,
        "create_time": event.create_time,
        "level": event.level.value,
        "message": _kept(event.message),
        "detail": None if event.detail is None else _text(_tagged(event.detail, _DETAILS)),
    }


def to_event(row: Mapping[Any, Any]) -> JobEvent:
    """Reads an event."""
    detail = row["detail"]
    return JobEvent(
        id=row["id"],
        job_id=row["job"],
        number=row["number"],
        create_time=row["create_time"],
        level=Level(row["level"]),
        message=row["message"],
        detail=None if detail is None else _untagged(json.loads(detail), _DETAILS),
    )


def checkpoint_row(checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns the columns of a checkpoint."""
    return {
        "id": checkpoint.id,
        "job": checkpoint.job_id,
        "create_time": checkpoint.create_time,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "metrics": _text(dict(checkpoint.metrics)),
        "model_id": checkpoint.model_id,
        "size_bytes": checkpoint.size_bytes,
    }


def to_checkpoint(row: Mapping[Any, Any]) -> Checkpoint:
    """Reads a checkpoint."""
    return Checkpoint(
        id=row["id"],
        job_id=row["job"],
        create_time=row["create_time"],
        step=row["step"],
        epoch=row["epoch"],
        metrics=json.loads(row["metrics"]),
        model_id=row["model_id"],
        size_bytes=row["size_bytes"],
    )


def _spec(spec: JobSpec) -> dict[str, Any]:
    return {
        "base_model": spec.base_model,
        "training": msgspec.to_builtins(spec.training),
        "validation": msgspec.to_builtins(spec.validation),
        "method": _tagged(spec.method, _METHODS),
        "tuning": _tagged(spec.tuning, _TUNINGS),
        "hyperparameters": msgspec.to_builtins(spec.hyperparameters),
        "suffix": spec.suffix,
        "seed": spec.seed,
        "metadata": dict(spec.metadata),
        "priority": spec.priority.value,
        "checkpoint_interval_steps": spec.checkpoint_interval_steps,
    }


def _to_spec(value: dict[str, Any]) -> JobSpec:
    return JobSpec(
        base_model=value["base_model"],
        training=msgspec.convert(value["training"], DataSource),
        validation=msgspec.convert(value["validation"], DataSource | None),
        method=_untagged(value["method"], _METHODS),
        tuning=_untagged(value["tuning"], _TUNINGS),
        hyperparameters=msgspec.convert(value["hyperparameters"], Hyperparameters),
        suffix=value["suffix"],
        seed=value["seed"],
        metadata=value["metadata"],
        priority=Priority(value["priority"]),
        checkpoint_interval_steps=value["checkpoint_interval_steps"],
    )


def _tagged(record: object, types: Mapping[str, type[object]]) -> dict[str, Any]:
    [tag] = [tag for tag, type in types.items() if isinstance(record, type)]
    return {tag: msgspec.to_builtins(record)}


def _untagged(value: dict[str, Any], types: Mapping[str, type[_T]]) -> _T:
    [(tag, fields)] = value.items()
    return msgspec.convert(fields, types[tag])


def _text(value: object) -> str:
    # Not msgspec: a loss may be no number, or infinite, and has to come back as it was.
    return json.dumps(value)


def _optional(record: object | None) -> str | None:
    return None if record is None else _text(msgspec.to_builtins(record))


def _read(text: str, type: type[_T]) -> _T:
    return msgspec.convert(json.loads(text), type)


def _kept(text: str) -> str:
    """Replaces what databases can't keep."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
