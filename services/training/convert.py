"""Messages to records and back."""

from datetime import timedelta

from penstock.training.v1 import file_pb2 as file_pb
from penstock.training.v1 import training_service_pb2 as pb

from services.training.names import file_name
from services.training.receiving import NewFile
from services.training.records import File, Purpose

_PURPOSES = {
    file_pb.FILE_PURPOSE_FINE_TUNE: Purpose.FINE_TUNE,
    file_pb.FILE_PURPOSE_FINE_TUNE_RESULTS: Purpose.FINE_TUNE_RESULTS,
    file_pb.FILE_PURPOSE_BATCH: Purpose.BATCH,
    file_pb.FILE_PURPOSE_BATCH_OUTPUT: Purpose.BATCH_OUTPUT,
    file_pb.FILE_PURPOSE_USER_DATA: Purpose.USER_DATA,
    file_pb.FILE_PURPOSE_ASSISTANTS: Purpose.ASSISTANTS,
    file_pb.FILE_PURPOSE_VISION: Purpose.VISION,
    file_pb.FILE_PURPOSE_EVALS: Purpose.EVALS,
}
_PURPOSES_BACK = {purpose: value for value, purpose in _PURPOSES.items()}


def to_purpose(value: "file_pb.FilePurpose.ValueType") -> Purpose | None:
    """Reads a purpose; None where none is given."""
    return _PURPOSES.get(value)


def to_new_file(header: pb.FileHeader) -> NewFile:
    """Reads the header of an upload, which was validated."""
    ttl: timedelta | None = None
    if header.HasField("time_to_live"):
        ttl = header.time_to_live.ToTimedelta()
    return NewFile(
        filename=header.filename,
        purpose=_PURPOSES[header.purpose],
        mime_type=header.mime_type,
        size_bytes=header.size_bytes if header.HasField("size_bytes") else None,
        sha256=header.sha256,
        time_to_live=ttl,
        request_id=header.request_id,
    )


def from_file(file: File) -> file_pb.File:
    """Writes a file."""
    message = file_pb.File(
        name=file_name(file.id),
        filename=file.filename,
        purpose=_PURPOSES_BACK[file.purpose],
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        mime_type=file.mime_type,
        owner=file.owner,
    )
    message.create_time.FromDatetime(file.create_time)
    if file.expire_time is not None:
        message.expire_time.FromDatetime(file.expire_time)
    return message
