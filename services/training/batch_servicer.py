"""BatchService and BatchWorkService over gRPC: translate, and leave the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from google.protobuf.empty_pb2 import Empty
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb
from penstock.training.internal.v1.batch_work_service_pb2_grpc import BatchWorkServiceServicer
from penstock.training.v1 import batch_pb2, batch_service_pb2
from penstock.training.v1.batch_service_pb2_grpc import BatchServiceServicer

from services.rpc.access import Role, requires
from services.training.batch_convert import (
    from_batch,
    from_held,
    from_line,
    from_place,
    from_standing,
    to_batch_spec,
    to_place,
    to_result,
)
from services.training.batch_names import parse_batch
from services.training.batch_work import BatchWork
from services.training.batches import Batches
from services.training.callers import Context, caller
from services.training.paging import Asked


class BatchServicer(BatchServiceServicer):
    """Serves `penstock.training.v1.BatchService`."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    @requires(Role.USER)
    async def CreateBatch(
        self, request: batch_service_pb2.CreateBatchRequest, context: Context
    ) -> batch_pb2.Batch:
        """Makes a batch."""
        spec = to_batch_spec(request.batch)
        return from_batch(await self._batches.create(spec, request.request_id, caller()))

    @requires(Role.USER)
    async def GetBatch(
        self, request: batch_service_pb2.GetBatchRequest, context: Context
    ) -> batch_pb2.Batch:
        """Gets a batch."""
        return from_batch(await self._batches.get(parse_batch(request.name, "name"), caller()))

    @requires(Role.USER)
    async def ListBatches(
        self, request: batch_service_pb2.ListBatchesRequest, context: Context
    ) -> batch_service_pb2.ListBatchesResponse:
        """Lists batches."""
        after = parse_batch(request.after, "after") if request.after else ""
        asked = Asked(request.page_size, request.page_token, after)
        page = await self._batches.list(asked, caller())
        return batch_service_pb2.ListBatchesResponse(
            batches=[from_batch(batch) for batch in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.USER)
    async def CancelBatch(
        self, request: batch_service_pb2.CancelBatchRequest, context: Context
    ) -> batch_pb2.Batch:
        """Cancels a batch."""
        return from_batch(await self._batches.cancel(parse_batch(request.name, "name"), caller()))


class BatchWorkServicer(BatchWorkServiceServicer):
    """Serves `penstock.training.internal.v1.BatchWorkService`."""

    def __init__(self, work: BatchWork) -> None:
        self._work = work

    @requires(Role.SERVICE)
    async def LeaseBatch(
        self, request: work_pb.LeaseBatchRequest, context: Context
    ) -> work_pb.LeaseBatchResponse:
        """Leases a batch."""
        held = await self._work.lease(request.endpoints, request.duration.ToTimedelta())
        return work_pb.LeaseBatchResponse(lease=None if held is None else from_held(held))

    @requires(Role.SERVICE)
    async def RenewLease(
        self, request: work_pb.RenewLeaseRequest, context: Context
    ) -> work_pb.LeaseStanding:
        """Makes a lease last longer."""
        id = parse_batch(request.batch, "batch")
        duration = request.duration.ToTimedelta()
        return from_standing(await self._work.renew(id, request.lease_id, duration))

    @requires(Role.SERVICE)
    async def ReleaseLease(self, request: work_pb.ReleaseLeaseRequest, context: Context) -> Empty:
        """Gives a lease back."""
        await self._work.release(parse_batch(request.batch, "batch"), request.lease_id)
        return Empty()

    @requires(Role.SERVICE)
    async def ReadLines(
        self, request: work_pb.ReadLinesRequest, context: Context
    ) -> work_pb.ReadLinesResponse:
        """Reads requests."""
        id = parse_batch(request.batch, "batch")
        lines, place = await self._work.read(
            id, request.lease_id, to_place(request), request.line_count
        )
        return work_pb.ReadLinesResponse(
            lines=[from_line(line) for line in lines], next=from_place(place)
        )

    @requires(Role.SERVICE)
    async def AppendResults(
        self, request: work_pb.AppendResultsRequest, context: Context
    ) -> work_pb.LeaseStanding:
        """Keeps results."""
        id = parse_batch(request.batch, "batch")
        results = [to_result(result) for result in request.results]
        return from_standing(await self._work.append(id, request.lease_id, results))

    @requires(Role.SERVICE)
    async def FailBatch(self, request: work_pb.FailBatchRequest, context: Context) -> Empty:
        """Ends a batch that can't go on."""
        id = parse_batch(request.batch, "batch")
        await self._work.fail(id, request.lease_id, request.code, request.message)
        return Empty()
