"""A peer for the edge: the training service over real gRPC, in memory. Jobs are in `job_peer`.

A filename `fails-REASON-PATH` fails the upload, one that begins with `stalls` keeps it waiting
after its header. Downloads do what the filename says: `fails-…` fails at once, `breaks` fails after
its first half, `waits` says nothing after it, `short` and `long` have less or more than they
should, `endless` never ends.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from penstock.training.v1 import file_pb2, training_service_pb2_grpc
from penstock.training.v1 import training_service_pb2 as service_pb2

from tests.integration.gateway.edge_backend import CODES, CREATED, failure
from tests.integration.gateway.job_peer import JobPeer

PIECE = 64 * 1024


class TrainingPeer(JobPeer, training_service_pb2_grpc.TrainingServiceServicer):
    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, file_pb2.File] = {}
        self.contents: dict[str, bytes] = {}
        self.in_use: set[str] = set()
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.headers: list[service_pb2.FileHeader] = []
        self.chunk_sizes: list[int] = []
        """Of the last upload."""
        self.live = 0
        self.sent = 0
        """Bytes of downloads."""
        self._numbers = itertools.count(1)

    def put(
        self,
        data: bytes,
        filename: str = "a.txt",
        purpose: file_pb2.FilePurpose.ValueType = file_pb2.FILE_PURPOSE_ASSISTANTS,
        mime_type: str = "",
    ) -> str:
        """Keeps a file and returns its ID."""
        number = next(self._numbers)
        file_id = f"file-{number:024d}"
        file = file_pb2.File(
            name=f"files/{file_id}",
            filename=filename,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            purpose=purpose,
            mime_type=mime_type,
        )
        file.create_time.seconds = CREATED + number
        self.files[file.name] = file
        self.contents[file.name] = data
        return file_id

    async def UploadFile(
        self, request_iterator: AsyncIterator[service_pb2.UploadFileRequest], context: Any
    ) -> file_pb2.File:
        self._enter(None, context)
        header, data = service_pb2.FileHeader(), b""
        self.chunk_sizes = []
        async for request in request_iterator:
            if request.HasField("header"):
                header = request.header
                self.headers.append(header)
                await self._fail(header.filename, context)
                if header.filename.startswith("stalls"):
                    await self._for_ever()
            else:
                self.chunk_sizes.append(len(request.chunk))
                data += request.chunk
        assert header.size_bytes == len(data)
        made = self.put(data, header.filename, header.purpose, header.mime_type)
        file = self.files[f"files/{made}"]
        if header.HasField("time_to_live"):
            file.expire_time.seconds = file.create_time.seconds + header.time_to_live.seconds
        return file

    async def GetFile(self, request: service_pb2.GetFileRequest, context: Any) -> file_pb2.File:
        self._enter(request, context)
        return await self._file(request.name, context)

    async def ListFiles(
        self, request: service_pb2.ListFilesRequest, context: Any
    ) -> service_pb2.ListFilesResponse:
        self._enter(request, context)
        found = [f for f in self.files.values() if request.purpose in (0, f.purpose)]
        if request.order_by != "create_time":
            found.reverse()
        if request.after:
            names = [file.name for file in found]
            if request.after not in names:
                await self._abort(context, "INVALID_ARGUMENT", "after")
            found = found[names.index(request.after) + 1 :]
        token = "more" if len(found) > request.page_size else ""
        page = found[: request.page_size]
        return service_pb2.ListFilesResponse(files=page, next_page_token=token)

    async def DeleteFile(
        self, request: service_pb2.DeleteFileRequest, context: Any
    ) -> empty_pb2.Empty:
        self._enter(request, context)
        file = await self._file(request.name, context)
        if file.name in self.in_use:
            await self._abort(context, "FAILED_PRECONDITION", None)
        del self.files[request.name]
        return empty_pb2.Empty()

    async def DownloadFile(
        self, request: service_pb2.DownloadFileRequest, context: Any
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        self._enter(request, context)
        file = await self._file(request.name, context)
        data = self.contents[request.name]
        await self._fail(file.filename, context)
        self.live += 1
        try:
            if file.filename == "endless":
                while True:
                    yield self._piece(b"x" * PIECE)
            is_half = file.filename in ("breaks", "short", "waits")
            end = len(data) // 2 if is_half else len(data)
            for start in range(0, end, PIECE):
                yield self._piece(data[start : min(start + PIECE, end)])
            if file.filename == "breaks":
                await self._abort(context, "INTERNAL", None)
            if file.filename == "waits":
                await asyncio.Event().wait()
            if file.filename == "long":
                yield self._piece(b"x")
        finally:
            self.live -= 1

    def _piece(self, data: bytes) -> httpbody_pb2.HttpBody:
        self.sent += len(data)
        return httpbody_pb2.HttpBody(content_type="text/html", data=data)

    async def _file(self, name: str, context: Any) -> file_pb2.File:
        if "/" in name.removeprefix("files/"):
            await self._abort(context, "INVALID_ARGUMENT", "name")
        if name not in self.files:
            await self._abort(context, "NOT_FOUND", "name")
        return self.files[name]

    async def _for_ever(self) -> None:
        self.live += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.live -= 1

    def _enter(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))

    async def _fail(self, script: str, context: Any) -> None:
        if script.startswith("fails-"):
            _, reason, *param = script.split("-")
            await self._abort(context, reason, param[0] if param else None)

    async def _abort(self, context: Any, reason: str, param: str | None) -> None:
        status = failure(reason, param)
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES[reason], status.message, details)


def serve(peer: TrainingPeer, server: grpc.aio.Server) -> None:
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(peer, server)
