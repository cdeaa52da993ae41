"""Answers of the training service about batches, translated. No I/O."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from penstock.training.v1 import batch_pb2, batch_service_pb2

from gateway.dialects.openai import batch_schema as schema
from gateway.dialects.openai.answers import seconds
from gateway.dialects.openai.batch_translate import batch_id_of
from gateway.dialects.openai.file_translate import file_id_of

_STATUSES: Mapping[int, schema.BatchStatus] = {
    batch_pb2.Batch.STATE_VALIDATING: "validating",
    batch_pb2.Batch.STATE_FAILED: "failed",
    batch_pb2.Batch.STATE_IN_PROGRESS: "in_progress",
    batch_pb2.Batch.STATE_FINALIZING: "finalizing",
    batch_pb2.Batch.STATE_COMPLETED: "completed",
    batch_pb2.Batch.STATE_EXPIRED: "expired",
    batch_pb2.Batch.STATE_CANCELLING: "cancelling",
    batch_pb2.Batch.STATE_CANCELLED: "cancelled",
}
_UNITS = ((24 * 3600, "d"), (3600, "h"), (60, "m"), (1, "s"))


def batch_object(batch: batch_pb2.Batch) -> schema.BatchObject:
    """Renders a batch."""
    counts = batch.counts
    return schema.BatchObject(
        id=batch_id_of(batch.name),
        object="batch",
        endpoint=batch.endpoint,
        errors=_problems(batch),
        input_file_id=file_id_of(batch.input_file),
        completion_window=_window(batch),
        status=_STATUSES.get(batch.state, "validating"),
        output_file_id=file_id_of(batch.output_file) or None,
        error_file_id=file_id_of(batch.error_file) or None,
        created_at=seconds(batch.create_time),
        in_progress_at=_moment(batch.in_progress_time),
        expires_at=_moment(batch.expire_time),
        finalizing_at=_moment(batch.finalizing_time),
        completed_at=_moment(batch.completed_time),
        failed_at=_moment(batch.failed_time),
        expired_at=_moment(batch.expired_time),
        cancelling_at=_moment(batch.cancelling_time),
        cancelled_at=_moment(batch.cancelled_time),
        request_counts=schema.BatchRequestCounts(
            counts.total_count, counts.completed_count, counts.failed_count
        ),
        metadata=dict(sorted(batch.metadata.items())) or None,
    )


def batch_list(page: batch_service_pb2.ListBatchesResponse) -> schema.BatchList:
    """Renders a page of batches."""
    data = [batch_object(batch) for batch in page.batches]
    return schema.BatchList(
        object="list",
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=bool(page.next_page_token),
    )


def _problems(batch: batch_pb2.Batch) -> schema.BatchProblems | None:
    if not batch.errors:
        return None
    data = [
        schema.BatchProblem(
            code=error.code,
            message=error.message,
            param=error.param or None,
            line=error.line if error.HasField("line") else None,
        )
        for error in batch.errors
    ]
    return schema.BatchProblems("list", data)


def _moment(time: Timestamp) -> int | None:
    return seconds(time) if time.seconds else None  # unset is the beginning of 1970


def _window(batch: batch_pb2.Batch) -> str:
    """Spells a window: a day is `24h`, as clients write it."""
    whole = batch.completion_window.seconds
    if whole == 24 * 3600:
        return "24h"
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{whole // size}{unit}"
