"""What tests say to BatchService and BatchWorkService."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb
from penstock.training.internal.v1.batch_work_service_pb2_grpc import BatchWorkServiceStub
from penstock.training.v1 import batch_pb2, batch_service_pb2, file_pb2
from penstock.training.v1.batch_service_pb2_grpc import BatchServiceStub

from tests.integration.training.file_platform import ME, SERVICE_TOKEN, Platform, upload

EDGE = (("authorization", f"Bearer {SERVICE_TOKEN}"),)
ENDPOINT = "/v1/chat/completions"
Batch = batch_pb2.Batch
MIB = 1024 * 1024


def line(number: int, **changes: Any) -> dict[str, Any]:
    facts = {"custom_id": f"c-{number}", "method": "POST", "url": ENDPOINT}
    return facts | {"body": {"model": "words", "n": number}} | changes


def text_of(lines: Sequence[Any]) -> bytes:
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines
    )


class Office:
    """BatchService as a caller uses it, and BatchWorkService as an edge does."""

    def __init__(self, service: Platform) -> None:
        self.service = service
        self.stub = BatchServiceStub(service.channel)
        self.work = BatchWorkServiceStub(service.channel)

    async def upload(self, content: bytes, who: Any = ME) -> str:
        chunks = [content[start : start + MIB] for start in range(0, len(content), MIB)]
        sent = upload(chunks, purpose=file_pb2.FILE_PURPOSE_BATCH)
        return (await self.service.stub.UploadFile(sent, metadata=who)).name

    async def create(
        self, content: bytes = b"", who: Any = ME, request_id: str = "", **facts: Any
    ) -> Batch:
        if "input_file" not in facts:
            facts["input_file"] = await self.upload(content or text_of([line(0)]), who)
        batch = {"endpoint": ENDPOINT} | facts
        request = batch_service_pb2.CreateBatchRequest(batch=batch, request_id=request_id)
        return await self.stub.CreateBatch(request, metadata=who)

    async def get(self, name: str, who: Any = ME) -> Batch:
        return await self.stub.GetBatch(batch_service_pb2.GetBatchRequest(name=name), metadata=who)

    async def cancel(self, name: str, who: Any = ME) -> Batch:
        request = batch_service_pb2.CancelBatchRequest(name=name)
        return await self.stub.CancelBatch(request, metadata=who)

    async def begun(self, count: int = 3, **facts: Any) -> Batch:
        """Makes a batch of good requests and has its file read."""
        batch = await self.create(text_of([line(number) for number in range(count)]), **facts)
        await self.service.keeper.work()
        batch = await self.get(batch.name)
        assert batch.state == Batch.STATE_IN_PROGRESS, batch
        return batch

    async def lease(self, seconds: int = 60, who: Any = EDGE) -> work_pb.Lease | None:
        request = work_pb.LeaseBatchRequest(
            duration=Duration(seconds=seconds), endpoints=[ENDPOINT]
        )
        answer = await self.work.LeaseBatch(request, metadata=who)
        return answer.lease if answer.HasField("lease") else None

    async def leased(self, seconds: int = 60) -> work_pb.Lease:
        lease = await self.lease(seconds)
        assert lease is not None
        return lease

    async def read(
        self, lease: work_pb.Lease, place: Any = None, count: int = 1000
    ) -> work_pb.ReadLinesResponse:
        request = work_pb.ReadLinesRequest(
            batch=lease.batch, lease_id=lease.lease_id, line_count=count, **{"from": place}
        )
        return await self.work.ReadLines(request, metadata=EDGE)

    async def append(
        self, lease: work_pb.Lease, results: dict[int, bytes], failed: Sequence[int] = ()
    ) -> work_pb.LeaseStanding:
        request = work_pb.AppendResultsRequest(
            batch=lease.batch,
            lease_id=lease.lease_id,
            results=[
                work_pb.Result(number=number, line=text, failed=number in failed)
                for number, text in results.items()
            ],
        )
        return await self.work.AppendResults(request, metadata=EDGE)

    async def release(self, lease: work_pb.Lease) -> None:
        request = work_pb.ReleaseLeaseRequest(batch=lease.batch, lease_id=lease.lease_id)
        await self.work.ReleaseLease(request, metadata=EDGE)

    async def fail(self, lease: work_pb.Lease, code: str, message: str) -> None:
        request = work_pb.FailBatchRequest(
            batch=lease.batch, lease_id=lease.lease_id, code=code, message=message
        )
        await self.work.FailBatch(request, metadata=EDGE)

    async def lines(self, name: str, who: Any = ME) -> list[bytes]:
        """The lines of a file."""
        return (await self.service.read(name, who=who)).splitlines() if name else []
