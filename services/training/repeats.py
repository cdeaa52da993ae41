"""Uploads that come twice."""

from services.errors import AlreadyExists
from services.training.records import File


def repeated(known: File, again: File) -> File:
    """Returns the file that a request ID made, where the same came again.

    Raises:
        AlreadyExists: it is another file.
    """
    if _facts(known) != _facts(again):
        raise AlreadyExists(
            "This request ID made another file before. Choose another ID for another file.",
            field="header.request_id",
        )
    return known


def _facts(file: File) -> tuple[object, ...]:
    ends = file.expire_time
    return (
        file.filename,
        file.purpose,
        file.mime_type,
        file.size_bytes,
        file.sha256,
        None if ends is None else ends - file.create_time,
    )
