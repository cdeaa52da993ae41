"""Times as the dialect writes them."""

from google.protobuf.timestamp_pb2 import Timestamp


def moment(time: Timestamp) -> str | None:
    """Writes a time in ISO 8601, as UTC; None for one that is not set."""
    if not (time.seconds or time.nanos):
        return None
    return f"{time.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
