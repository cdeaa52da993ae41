"""Instants in messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(instant: datetime | None) -> Timestamp | None:
    """Writes an instant; none stays none."""
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message
