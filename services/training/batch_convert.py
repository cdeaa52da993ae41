"""Messages of batches to records and back."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb
from penstock.training.v1 import batch_pb2 as pb

from services.rpc.instants import timestamp
from services.training.batch_names import batch_name
from services.training.batch_records import Batch, BatchSpec, BatchState, Held
from services.training.batch_work import Line, LinePlace, Result
from services.training.names import file_name, parse_file

_STATES = {
    BatchState.VALIDATING: pb.Batch.STATE_VALIDATING,
    BatchState.FAILED: pb.Batch.STATE_FAILED,
    BatchState.IN_PROGRESS: pb.Batch.STATE_IN_PROGRESS,
    BatchState.FINALIZING: pb.Batch.STATE_FINALIZING,
    BatchState.COMPLETED: pb.Batch.STATE_COMPLETED,
    BatchState.EXPIRED: pb.Batch.STATE_EXPIRED,
    BatchState.CANCELLING: pb.Batch.STATE_CANCELLING,
    BatchState.CANCELLED: pb.Batch.STATE_CANCELLED,
}
_DEFAULT_WINDOW = timedelta(hours=24)


def to_batch_spec(batch: pb.Batch) -> BatchSpec:
    """Reads what a caller asks for, which was validated.

    Raises:
        InvalidArgument: the name of the file is none.
        NotFound: no file could have the name.
    """
    window, kept = _DEFAULT_WINDOW, None
    if batch.HasField("completion_window"):
        window = batch.completion_window.ToTimedelta()
    if batch.HasField("output_time_to_live"):
        kept = batch.output_time_to_live.ToTimedelta()
    return BatchSpec(
        input_file=parse_file(batch.input_file, "batch.input_file"),
        endpoint=batch.endpoint,
        window=window,
        metadata=dict(batch.metadata),
        output_time_to_live=kept,
    )


def from_batch(batch: Batch) -> pb.Batch:
    """Writes a batch."""
    spec = batch.spec
    return pb.Batch(
        name=batch_name(batch.id),
        state=_STATES[batch.state],
        input_file=file_name(spec.input_file),
        endpoint=spec.endpoint,
        completion_window=_duration(spec.window),
        metadata=dict(spec.metadata),
        output_time_to_live=_duration(spec.output_time_to_live),
        output_file=file_name(batch.output_file) if batch.output_file else "",
        error_file=file_name(batch.error_file) if batch.error_file else "",
        counts=pb.BatchCounts(
            total_count=batch.total, completed_count=batch.completed, failed_count=batch.failed
        ),
        # What ends a batch amid its requests is told once it has ended.
        errors=[
            pb.BatchError(code=one.code, message=one.message, param=one.param, line=one.line)
            for one in batch.errors
            if batch.state is BatchState.FAILED
        ],
        owner=batch.owner,
        create_time=timestamp(batch.create_time),
        expire_time=timestamp(batch.expire_time),
        in_progress_time=timestamp(batch.in_progress_time),
        finalizing_time=timestamp(batch.finalizing_time),
        completed_time=timestamp(batch.completed_time),
        failed_time=timestamp(batch.failed_time),
        expired_time=timestamp(batch.expired_time),
        cancelling_time=timestamp(batch.cancelling_time),
        cancelled_time=timestamp(batch.cancelled_time),
    )


def from_held(held: Held) -> work_pb.Lease:
    """Writes a lease."""
    batch = held.batch
    return work_pb.Lease(
        batch=batch_name(batch.id),
        lease_id=held.lease_id,
        owner=batch.owner,
        endpoint=batch.spec.endpoint,
        owner_standing=batch.owner_standing,
    )


def from_standing(batch: Batch) -> work_pb.LeaseStanding:
    """Writes how a lease stands."""
    return work_pb.LeaseStanding(
        cancelling=batch.state is BatchState.CANCELLING,
        finished=batch.outcome is BatchState.COMPLETED,
    )


def to_place(request: work_pb.ReadLinesRequest) -> LinePlace:
    """Reads a place in a file."""
    # `from` is a word of Python.
    place: work_pb.LinePlace = getattr(request, "from")
    return LinePlace(place.offset_bytes, place.number)


def from_place(place: LinePlace | None) -> work_pb.LinePlace | None:
    """Writes a place in a file."""
    if place is None:
        return None
    return work_pb.LinePlace(offset_bytes=place.offset, number=place.number)


def from_line(line: Line) -> work_pb.Line:
    """Writes a request."""
    return work_pb.Line(number=line.number, id=line.id, custom_id=line.custom_id, body=line.body)


def to_result(result: work_pb.Result) -> Result:
    """Reads a result."""
    return Result(result.number, result.failed, result.line)


def _duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    message = Duration()
    message.FromTimedelta(span)
    return message
