"""The clock of the service."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Returns the present instant."""
    return datetime.now(UTC)
