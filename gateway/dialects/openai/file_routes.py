"""Files: parse, translate, call, translate back."""

import errno
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

import grpc
import msgspec
from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.calls import ask_while_there
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import file_answers as answers
from gateway.dialects.openai import file_schema as schema
from gateway.dialects.openai import file_translate as translate
from gateway.downloads import Piece, download
from gateway.errors import Problem, ProblemError, invalid, unavailable
from gateway.form_values import FormDecoder
from gateway.multipart import Form, FormLimits, Upload, read_form
from gateway.queries import QueryDecoder
from gateway.relays import CUT_SHORT, EventCall, EventReader
from gateway.settings import Settings
from gateway.validation import missing

_MEMORY_BYTES = 1024 * 1024
"""What an upload takes of the memory; the rest of it waits on disk."""
_PIECE_BYTES = 512 * 1024
_FORM_BYTES = 1024 * 1024
"""What a form may be larger than the file in it."""
_DOWNLOAD_S = 3600.0
"""Deadline of a download. A client that stalls is given up much sooner."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Answer = TypeVar("Answer")


class UploadedFiles:
    """The service that keeps files, with its errors in the dialect's words."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self.stub = clients.training

    async def get(self, file_id: str, context: RequestContext, param: str = "id") -> file_pb2.File:
        """Gets a file of the caller; `param` is what named it."""
        request = service_pb2.GetFileRequest(name=translate.file_name(file_id))
        return await told(ask(self.stub.GetFile, request, context), file_id, param)

    def content(self, name: str, context: RequestContext) -> EventCall[Piece]:
        """Starts to read the content of a file."""
        request = service_pb2.DownloadFileRequest(name=name)
        metadata = grpc.aio.Metadata(*context.metadata().items())
        return self.stub.DownloadFile(
            request, timeout=context.within(_DOWNLOAD_S), metadata=metadata
        )

    async def read(
        self, file: file_pb2.File, context: RequestContext, receive: Receive, param: str
    ) -> bytes:
        """Reads all of a file into memory: look at its size before. `param` is what named it.

        Raises:
            ProblemError: it is gone, or its bytes are fewer or more than its size says.
            ClientGoneError: the client left.
        """
        return await told(
            self._read(file, context, receive), translate.file_id_of(file.name), param
        )

    async def _read(self, file: file_pb2.File, context: RequestContext, receive: Receive) -> bytes:
        data = bytearray()
        async with EventReader(self.content(file.name, context), receive) as reader:
            while len(data) <= file.size_bytes and (piece := await reader.read()) is not None:
                data += piece.data
        if len(data) != file.size_bytes:
            raise ProblemError(unavailable(CUT_SHORT))
        return bytes(data)


async def told(call: Awaitable[Answer], file_id: str, param: str = "id") -> Answer:
    """Waits for what is done to a file, and tells of an unknown one as the dialect does."""
    try:
        return await call
    except ProblemError as error:
        unknown = translate.unknown_file(error.problem, file_id, param)
        raise ProblemError(translate.spell_file(unknown)) from None


class Files:
    """`GET` and `POST /v1/files`.

    An upload waits on disk until all of it is here, and goes to the service piece by piece then:
    what the service must know first may stand behind the file, as in OpenAI's own examples.
    """

    def __init__(self, files: UploadedFiles) -> None:
        self._files = files
        self._query = QueryDecoder(schema.UploadedFilesQuery)
        self._decoder = FormDecoder(schema.FileOptions)
        self._limit = files.settings.api.max_upload_bytes
        self._form_limits = FormLimits(
            body_bytes=self._limit + _FORM_BYTES, memory_bytes=_MEMORY_BYTES, text_bytes=64 * 1024
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] == "POST":
            made = await self._upload(scope, receive)
            await send_json(send, msgspec.json.encode(answers.file_object(made)))
            return
        request = translate.to_list_request(self._query(scope))
        try:
            page = await ask(self._files.stub.ListFiles, request, context_of(scope))
        except ProblemError as error:
            raise ProblemError(translate.spell_file(error.problem)) from None
        await send_json(send, msgspec.json.encode(answers.file_list(page)))

    async def _upload(self, scope: Scope, receive: Receive) -> file_pb2.File:
        with await self._form(scope, receive) as form:
            body = self._decoder(form.texts)
            file = _the_file(form)
            if file.size > self._limit:
                message = f"The file is larger than the limit of {self._limit} bytes."
                raise ProblemError(Problem("BODY_TOO_LARGE", message, param="file"))
            pieces = _requests(translate.to_header(body, file), file)
            timeout_s = self._files.settings.request_timeout_s
            method = self._files.stub.UploadFile
            try:
                return await ask_while_there(method, pieces, context_of(scope), receive, timeout_s)
            except ProblemError as error:
                raise ProblemError(translate.spell_file(error.problem)) from None

    async def _form(self, scope: Scope, receive: Receive) -> Form:
        try:
            return await read_form(scope, receive, self._form_limits)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            message = "The server has no room for the upload now. Try again later."
            raise ProblemError(Problem("STORAGE_FULL", message)) from None


class OneFile:
    """`GET` and `DELETE /v1/files/{file_id}`."""

    def __init__(self, files: UploadedFiles) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        file_id: str = scope["path_params"]["file_id"]
        context = context_of(scope)
        if scope["method"] == "DELETE":
            request = service_pb2.DeleteFileRequest(name=translate.file_name(file_id))
            await told(ask(self._files.stub.DeleteFile, request, context), file_id)
            answer = schema.FileDeleted(file_id, "file", deleted=True)
        else:
            answer = answers.file_object(await self._files.get(file_id, context))
        await send_json(send, msgspec.json.encode(answer))


class FileContent:
    """`GET /v1/files/{file_id}/content`."""

    def __init__(self, files: UploadedFiles) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        file_id: str = scope["path_params"]["file_id"]
        context = context_of(scope)
        file = await self._files.get(file_id, context)
        headers = answers.content_headers(file)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        answering = download(
            self._files.content(file.name, context),
            file.size_bytes,
            receive,
            send,
            headers=headers,
            slow_reader_s=self._files.settings.slow_reader_s,
        )
        await told(answering, file_id)


def _the_file(form: Form) -> Upload:
    for name, text in form.texts:
        if name == "file" and text:
            message = "Invalid type for 'file': expected a file, but got a text instead."
            raise invalid(message, "file", "invalid_type")
    files = [file for file in form.files if file.name == "file"]
    if not files:
        raise missing("file")
    if len(files) > 1:
        raise invalid(f"Invalid 'file': {len(files)} files. Send one at a time.", "file")
    return files[0]


async def _requests(
    header: service_pb2.FileHeader, file: Upload
) -> AsyncGenerator[service_pb2.UploadFileRequest, None]:
    yield service_pb2.UploadFileRequest(header=header)
    async for piece in file.pieces(_PIECE_BYTES):
        yield service_pb2.UploadFileRequest(chunk=piece)
