"""Makes documents of uploaded files, for vector stores."""

from collections.abc import AsyncGenerator, Mapping, Sequence

import grpc
from penstock.retrieval.v1 import collection_pb2, document_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from penstock.training.v1 import file_pb2
from starlette.types import Receive

from gateway.context import RequestContext
from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.file_routes import UploadedFiles
from gateway.dialects.openai.vector_store_service import Retrieval
from gateway.errors import ProblemError, from_status, invalid, unavailable
from gateway.relays import CUT_SHORT, EventReader

_LARGEST = 32 * 1024 * 1024
"""Most that a document may have."""


class Attachments:
    """Reads files of the caller, and puts them into stores as documents with the same ID."""

    def __init__(self, retrieval: Retrieval, files: UploadedFiles) -> None:
        self._retrieval = retrieval
        self._files = files

    async def find(
        self, file_ids: Sequence[str], context: RequestContext, param: str = "file_ids"
    ) -> list[tuple[str, file_pb2.File]]:
        """Gets what is known of files, each with what named it, one of the list `param`.

        Raises:
            ProblemError: one is unknown, or can't become a document.
        """
        found: dict[str, tuple[str, file_pb2.File]] = {}
        for number, file_id in enumerate(file_ids):
            where = f"{param}[{number}]"
            if file_id not in found:
                found[file_id] = where, await self.find_one(file_id, context, where)
        return list(found.values())

    async def find_one(
        self, file_id: str, context: RequestContext, param: str = "file_id"
    ) -> file_pb2.File:
        """Gets what is known of a file.

        Raises:
            ProblemError: it is unknown, or can't become a document.
        """
        file = await self._files.get(file_id, context, param)
        if file.size_bytes > _LARGEST:
            size = _LARGEST // 1024**2
            message = f"Invalid '{param}': the file is larger than {size} MiB. Split it."
            raise invalid(message, param)
        if not file.size_bytes:
            raise invalid(f"Invalid '{param}': the file is empty.", param)
        return file

    async def attach(
        self,
        file: file_pb2.File,
        collection: collection_pb2.Collection,
        context: RequestContext,
        receive: Receive,
        *,
        attributes: Mapping[str, schema.Scalar] | None = None,
        param: str = "file_id",
    ) -> None:
        """Puts a file into a store. One that is there already is replaced.

        Raises:
            ProblemError: the file is gone, or no text can be taken out of it.
            ClientGoneError: the client left.
        """
        data = await self._files.read(file, context, receive, param)
        document = translate.to_document(file, data, attributes or {})
        try:
            await self._put(document, collection.name, context, receive)
        except ProblemError as error:
            raise ProblemError(translate.attachment_spelling(param)(error.problem)) from None

    async def _put(
        self,
        document: document_pb2.Document,
        collection: str,
        context: RequestContext,
        receive: Receive,
    ) -> None:
        call = self._retrieval.stub.UpsertDocuments(
            _requests(document, collection),
            timeout=context.within(self._retrieval.settings.request_timeout_s),
            metadata=grpc.aio.Metadata(*context.metadata().items()),
        )
        async with EventReader(call, receive) as reader:
            while (event := await reader.read()) is not None:
                if event.HasField("rejected"):
                    raise ProblemError(from_status(event.rejected.status))
                if event.HasField("finish"):
                    return
        raise ProblemError(unavailable(CUT_SHORT))


async def _requests(
    document: document_pb2.Document, collection: str
) -> AsyncGenerator[service_pb2.UpsertDocumentsRequest, None]:
    start = service_pb2.UpsertDocumentsRequest()
    start.start.collection = collection
    yield start
    yield service_pb2.UpsertDocumentsRequest(document=document)
