"""UsageService's messages to what the ledger keeps, and back."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.access.v1 import usage_pb2 as pb
from penstock.access.v1 import usage_service_pb2 as service_pb

from services.errors import InvalidArgument
from services.model.usage_records import Filter, Group, Outcome, Total, Usage

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_S: Final = 253_402_300_800  # the year 10000
_LONGEST: Final = {
    "id": 64,
    "principal": 256,
    "request_id": 128,
    "model": 256,
    "method": 256,
    "dialect": 32,
    "user": 512,
}
_OUTCOMES: Final = {
    Outcome.UNKNOWN: pb.OUTCOME_UNSPECIFIED,
    Outcome.OK: pb.OUTCOME_OK,
    Outcome.CANCELLED: pb.OUTCOME_CANCELLED,
    Outcome.DEADLINE_EXCEEDED: pb.OUTCOME_DEADLINE_EXCEEDED,
    Outcome.FAILED: pb.OUTCOME_FAILED,
}
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "images")
_MOST: Final = 2**40
"""No request uses more; the sum of so many of them is still a number that databases have."""


def to_usage(records: Iterable[pb.UsageRecord]) -> list[Usage]:
    """Reads records. Raises `InvalidArgument`."""
    return [_usage(record, f"records[{at}]") for at, record in enumerate(records)]


def to_filter(given: service_pb.UsageFilter) -> Filter:
    """Reads a filter. Raises `InvalidArgument`."""
    for name in ("principal", "model", "dialect", "request_id"):
        if "\0" in getattr(given, name):
            raise _wrong(f"filter.{name}", "a NUL is in it, which no record has.")
    has_start, has_end = given.HasField("start_time"), given.HasField("end_time")
    return Filter(
        principal=given.principal,
        model=given.model,
        dialect=given.dialect,
        request_id=given.request_id,
        start_time=_instant(given.start_time, "filter.start_time") if has_start else None,
        end_time=_instant(given.end_time, "filter.end_time") if has_end else None,
    )


def to_groups(given: Iterable[int]) -> list[Group]:
    """Reads what sums are made by."""
    return [Group(group) for group in given]


def from_usage(usage: Usage) -> pb.UsageRecord:
    """Makes the message of a record."""
    record = pb.UsageRecord(
        id=usage.id,
        principal=usage.principal,
        request_id=usage.request_id,
        model=usage.model,
        method=usage.method,
        dialect=usage.dialect,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        images=usage.images,
        outcome=_OUTCOMES[usage.outcome],
        user=usage.user,
    )
    record.queued.FromTimedelta(usage.queued)
    record.ran.FromTimedelta(usage.ran)
    record.start_time.FromDatetime(usage.start_time)
    return record


def from_total(total: Total) -> pb.UsageTotal:
    """Makes the message of a sum."""
    return pb.UsageTotal(
        principal=total.principal,
        model=total.model,
        period=total.period,
        dialect=total.dialect,
        requests=total.requests,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        cached_tokens=total.cached_tokens,
        images=total.images,
    )


def _usage(record: pb.UsageRecord, field: str) -> Usage:
    for name, longest in _LONGEST.items():
        text: str = getattr(record, name)
        if len(text) > longest or "\0" in text:
            raise _wrong(f"{field}.{name}", f"takes at most {longest} characters, and no NUL.")
    if not record.id:
        raise _wrong(f"{field}.id", "is missing.")
    for name in _COUNTS:
        if not 0 <= getattr(record, name) <= _MOST:
            raise _wrong(f"{field}.{name}", f"takes 0 to {_MOST}.")
    if record.outcome not in pb.Outcome.values():
        raise _wrong(f"{field}.outcome", "there is no such outcome.")
    return Usage(
        id=record.id,
        principal=record.principal,
        request_id=record.request_id,
        model=record.model,
        method=record.method,
        dialect=record.dialect,
        outcome=Outcome(record.outcome),
        start_time=_instant(record.start_time, f"{field}.start_time"),
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cached_tokens=record.cached_tokens,
        images=record.images,
        queued=_span(record.queued, f"{field}.queued"),
        ran=_span(record.ran, f"{field}.ran"),
        user=record.user,
    )


def _instant(given: Timestamp, field: str) -> datetime:
    """Reads a time; what is finer than a microsecond is rounded up, which compares the same."""
    if not (0 <= given.seconds < _LATEST_S and 0 <= given.nanos < 10**9):
        raise _wrong(field, "must lie between 1970 and 9999.")
    micros = given.seconds * 10**6 - (-given.nanos // 1000)
    return _EPOCH + timedelta(microseconds=min(micros, _LATEST_S * 10**6 - 1))


def _span(given: Duration, field: str) -> timedelta:
    if not (0 <= given.seconds <= 10**9 and 0 <= given.nanos < 10**9):
        raise _wrong(field, "must be a span of time, none below zero.")
    return timedelta(seconds=given.seconds, microseconds=given.nanos // 1000)


def _wrong(field: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"'{field}': {what}", field=field)
