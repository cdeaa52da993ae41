"""Which state of a batch may follow which, and what follows from a state."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from services.training.batch_records import BATCH_ENDED, Batch, BatchState

_NEXT: Final[dict[BatchState, frozenset[BatchState]]] = {
    BatchState.VALIDATING: frozenset(
        {
            BatchState.IN_PROGRESS,
            BatchState.CANCELLING,
            BatchState.FAILED,
            BatchState.EXPIRED,
        }
    ),
    BatchState.IN_PROGRESS: frozenset(
        {
            BatchState.FINALIZING,
            BatchState.CANCELLING,
            BatchState.FAILED,
            BatchState.EXPIRED,
        }
    ),
    BatchState.FINALIZING: frozenset({BatchState.COMPLETED}),
    BatchState.CANCELLING: frozenset({BatchState.CANCELLED}),
    **{state: frozenset[BatchState]() for state in BATCH_ENDED},
}
_TIMES: Final[dict[BatchState, str]] = {
    BatchState.IN_PROGRESS: "in_progress_time",
    BatchState.FINALIZING: "finalizing_time",
    BatchState.CANCELLING: "cancelling_time",
    BatchState.COMPLETED: "completed_time",
    BatchState.FAILED: "failed_time",
    BatchState.EXPIRED: "expired_time",
    BatchState.CANCELLED: "cancelled_time",
}


def batch_may_follow(before: BatchState, after: BatchState) -> bool:
    """Tells whether a batch may go from one state to another; it may always stay."""
    return before is after or after in _NEXT[before]


def batch_stamped(batch: Batch, now: datetime) -> Batch:
    """Notes when the batch came to its state, unless that is noted."""
    name = _TIMES.get(batch.state)
    if name is None or getattr(batch, name) is not None:
        return batch
    return replace(batch, **{name: now})
