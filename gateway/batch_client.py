"""The work on batches, as the training service hands it out."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb

from gateway.clients import Clients, ask
from gateway.context import RequestContext, inner_context

_CALL_S = 60.0
_GIVE_BACK_S = 2.0


class BatchClient:
    """Calls about batches, in the edge's own name. Each raises `ProblemError`."""

    def __init__(self, clients: Clients, service_token: str, lease_s: int) -> None:
        self._stub = clients.batch_work
        self._authorization = f"Bearer {service_token}"
        self._duration = Duration(seconds=lease_s)

    async def lease(self, endpoints: Sequence[str]) -> work_pb.Lease | None:
        """Leases a batch, if there is one."""
        request = work_pb.LeaseBatchRequest(duration=self._duration, endpoints=endpoints)
        answer = await ask(self._stub.LeaseBatch, request, self._context(), timeout_s=_CALL_S)
        return answer.lease if answer.HasField("lease") else None

    async def renew(self, lease: work_pb.Lease) -> work_pb.LeaseStanding:
        """Makes a lease last longer."""
        request = work_pb.RenewLeaseRequest(
            batch=lease.batch, lease_id=lease.lease_id, duration=self._duration
        )
        return await ask(self._stub.RenewLease, request, self._context(), timeout_s=_CALL_S)

    async def release(self, lease: work_pb.Lease) -> None:
        """Gives a lease back."""
        request = work_pb.ReleaseLeaseRequest(batch=lease.batch, lease_id=lease.lease_id)
        await ask(self._stub.ReleaseLease, request, self._context(), timeout_s=_GIVE_BACK_S)

    async def read(
        self, lease: work_pb.Lease, place: work_pb.LinePlace | None, count: int
    ) -> work_pb.ReadLinesResponse:
        """Reads requests without results, from a place on."""
        request = work_pb.ReadLinesRequest(
            batch=lease.batch, lease_id=lease.lease_id, line_count=count, **{"from": place}
        )
        return await ask(self._stub.ReadLines, request, self._context(), timeout_s=_CALL_S)

    async def append(
        self, lease: work_pb.Lease, results: Sequence[work_pb.Result]
    ) -> work_pb.LeaseStanding:
        """Keeps results."""
        request = work_pb.AppendResultsRequest(
            batch=lease.batch, lease_id=lease.lease_id, results=results
        )
        return await ask(self._stub.AppendResults, request, self._context(), timeout_s=_CALL_S)

    async def fail(self, lease: work_pb.Lease, code: str, message: str) -> None:
        """Ends a batch that can't go on."""
        request = work_pb.FailBatchRequest(
            batch=lease.batch, lease_id=lease.lease_id, code=code, message=message
        )
        await ask(self._stub.FailBatch, request, self._context(), timeout_s=_CALL_S)

    def _context(self) -> RequestContext:
        return inner_context(self._authorization)
