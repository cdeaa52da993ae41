"""The usage ledger, over gRPC."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.access.v1 import usage_pb2 as pb
from penstock.access.v1 import usage_service_pb2 as service_pb
from penstock.access.v1.usage_service_pb2_grpc import UsageServiceStub

from services.metering import Outcome
from services.rpc.errors import from_rpc_error
from services.usage.records import Record

_TIMEOUT_S: Final = 10.0
OUTCOMES: Final = {
    Outcome.OK.value: pb.OUTCOME_OK,
    Outcome.CANCELLED.value: pb.OUTCOME_CANCELLED,
    Outcome.DEADLINE_EXCEEDED.value: pb.OUTCOME_DEADLINE_EXCEEDED,
    Outcome.FAILED.value: pb.OUTCOME_FAILED,
}
"""Outcomes as they are told, by what they are called in records."""


class Ledger:
    """The ledger that ModelService's process keeps. `channel` carries the service token."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = UsageServiceStub(channel)

    async def record(self, records: Sequence[Record]) -> None:
        """Keeps records; those that are there already stay as they are. Raises a `DomainError`."""
        request = service_pb.RecordUsageRequest(records=map(to_proto, records))
        try:
            await self._stub.RecordUsage(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def spent(self, principal: str, since: datetime) -> int:
        """Returns the prompt and completion tokens of all requests of a principal that began at
        this time or later, as far as the ledger has been told. Raises a `DomainError`."""
        start = Timestamp()
        start.FromDatetime(since)
        request = service_pb.SumUsageRequest(
            filter=service_pb.UsageFilter(principal=principal, start_time=start)
        )
        try:
            response = await self._stub.SumUsage(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return sum(total.prompt_tokens + total.completion_tokens for total in response.totals)


def to_proto(record: Record) -> pb.UsageRecord:
    """Makes the message of a record."""
    proto = pb.UsageRecord(
        id=record.id,
        principal=record.principal,
        request_id=record.request_id,
        model=record.model,
        method=record.method,
        dialect=record.dialect,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cached_tokens=record.cached_tokens,
        images=record.images,
        outcome=OUTCOMES.get(record.outcome, pb.OUTCOME_UNSPECIFIED),
        user=record.user,
    )
    proto.queued.FromMicroseconds(record.queued_us)
    proto.ran.FromMicroseconds(record.ran_us)
    proto.start_time.FromMicroseconds(record.start_us)
    return proto
