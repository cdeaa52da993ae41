"""The file methods of TrainingService: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from penstock.training.v1 import file_pb2 as file_pb
from penstock.training.v1 import training_service_pb2 as pb
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceServicer

from services.errors import DomainError
from services.rpc.access import Role, requires, validates_itself
from services.training.callers import Context, caller
from services.training.convert import from_file, to_purpose
from services.training.files import Files
from services.training.names import parse_file
from services.training.paging import Asked
from services.training.streams import Upload, write_pieces

_ASCENDING = "create_time"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the service waits for callers."""

    upload_s: float = 60.0
    """For the next piece of an upload."""
    reader_s: float = 30.0
    """For a download to be read."""


class FileServicer(TrainingServiceServicer):
    """Serves the file methods."""

    def __init__(self, files: Files, patience: Patience) -> None:
        self._files = files
        self._patience = patience

    @requires(Role.USER)
    @validates_itself
    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Context
    ) -> file_pb.File:
        """Receives a file."""
        upload = Upload(request_iterator, idle_s=self._patience.upload_s)
        try:
            new = await upload.header()
            async with aclosing(upload.chunks()) as chunks:
                return from_file(await self._files.upload(new, chunks, caller()))
        except DomainError:
            await upload.discard()
            raise

    @requires(Role.USER)
    async def GetFile(self, request: pb.GetFileRequest, context: Context) -> file_pb.File:
        """Gets what is known of a file."""
        return from_file(await self._files.get(parse_file(request.name, "name"), caller()))

    @requires(Role.USER)
    async def ListFiles(
        self, request: pb.ListFilesRequest, context: Context
    ) -> pb.ListFilesResponse:
        """Lists files."""
        after = parse_file(request.after, "after") if request.after else ""
        asked = Asked(request.page_size, request.page_token, after, request.order_by != _ASCENDING)
        page = await self._files.list(asked, to_purpose(request.purpose), caller())
        return pb.ListFilesResponse(
            files=[from_file(file) for file in page.items], next_page_token=page.next_page_token
        )

    @requires(Role.USER)
    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Context) -> Empty:
        """Deletes a file."""
        await self._files.delete(parse_file(request.name, "name"), caller())
        return Empty()

    @requires(Role.USER)
    async def DownloadFile(  # pyright: ignore[reportIncompatibleMethodOverride]  (writes itself)
        self, request: pb.DownloadFileRequest, context: Context
    ) -> None:
        """Sends the content of a file."""
        id = parse_file(request.name, "name")
        async with aclosing(self._files.read(id, request.offset_bytes, caller())) as pieces:
            await write_pieces(pieces, context, slow_s=self._patience.reader_s)
