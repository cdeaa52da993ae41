"""Rows to batches, and back."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from services.training.batch_records import Batch, BatchError, BatchSpec, BatchState

_SAME = (
    "id",
    "owner",
    "owner_standing",
    "salt",
    "total",
    "completed",
    "failed",
    "output_file",
    "error_file",
    "create_time",
    "expire_time",
    "in_progress_time",
    "finalizing_time",
    "completed_time",
    "failed_time",
    "expired_time",
    "cancelling_time",
    "cancelled_time",
)
"""Fields of a batch that are columns as they are."""


def batch_row(batch: Batch) -> dict[str, Any]:
    """Returns the columns of a batch, but for those that only the store knows."""
    row = {name: getattr(batch, name) for name in _SAME}
    return row | {
        "state": batch.state.value,
        "outcome": batch.outcome and batch.outcome.value,
        "input_file": batch.spec.input_file,
        "endpoint": batch.spec.endpoint,
        "spec": _spec(batch.spec),
        "errors": json.dumps([msgspec.to_builtins(error) for error in batch.errors]),
    }


def to_batch(row: Mapping[Any, Any]) -> Batch:
    """Reads a batch."""
    spec = json.loads(row["spec"])
    kept_s = spec["output_time_to_live_s"]
    outcome = row["outcome"]
    return Batch(
        spec=BatchSpec(
            input_file=row["input_file"],
            endpoint=row["endpoint"],
            window=timedelta(seconds=spec["window_s"]),
            metadata=spec["metadata"],
            output_time_to_live=None if kept_s is None else timedelta(seconds=kept_s),
        ),
        state=BatchState(row["state"]),
        outcome=None if outcome is None else BatchState(outcome),
        errors=tuple(msgspec.convert(json.loads(row["errors"]), list[BatchError])),
        **{name: row[name] for name in _SAME},
    )


def batch_request_hash(spec: BatchSpec) -> str:
    """Returns what tells requests apart."""
    told = json.dumps([spec.input_file, spec.endpoint, _spec(spec)])
    return hashlib.sha256(told.encode()).hexdigest()


def _spec(spec: BatchSpec) -> str:
    kept = spec.output_time_to_live
    return json.dumps(
        {
            "window_s": spec.window.total_seconds(),
            "metadata": dict(spec.metadata),
            "output_time_to_live_s": None if kept is None else kept.total_seconds(),
        },
        sort_keys=True,
    )
