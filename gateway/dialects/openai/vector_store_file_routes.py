"""Files of vector stores: parse, translate, call, translate back."""

import asyncio

import msgspec
from penstock.retrieval.v1 import document_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.context import context_of
from gateway.dialects.openai import vector_store_answers as answers
from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.file_translate import file_id_of
from gateway.dialects.openai.vector_store_attachments import Attachments
from gateway.dialects.openai.vector_store_service import Retrieval
from gateway.errors import Problem, ProblemError
from gateway.queries import QueryDecoder
from gateway.validation import decode

_CONTENT = "/content"


class VectorStoreFiles:
    """`GET` and `POST /v1/vector_stores/{vector_store_id}/files`."""

    def __init__(self, retrieval: Retrieval, attachments: Attachments) -> None:
        self._retrieval = retrieval
        self._attachments = attachments
        self._query = QueryDecoder(schema.FileListQuery)
        self._decoder = msgspec.json.Decoder(schema.VectorStoreFileCreate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] == "POST":
            limit = self._retrieval.settings.max_body_bytes
            body = decode(self._decoder, await read_body(scope, receive, limit))
            answer = await self._attach(body, scope, receive)
            await send_json(send, msgspec.json.encode(answer))
            return
        await send_json(send, msgspec.json.encode(await self._list(self._query(scope), scope)))

    async def _attach(
        self, body: schema.VectorStoreFileCreate, scope: Scope, receive: Receive
    ) -> schema.VectorStoreFile:
        context = context_of(scope)
        collection = await self._retrieval.collection(scope)
        translate.check_same_chunking(body.chunking_strategy, collection)
        file = await self._attachments.find_one(body.file_id, context)
        await self._attachments.attach(
            file, collection, context, receive, attributes=body.attributes
        )
        request = service_pb2.GetDocumentRequest(
            name=f"{collection.name}/documents/{file_id_of(file.name)}",
            view=document_pb2.DOCUMENT_VIEW_BASIC,
        )
        stub = self._retrieval.stub
        document = await self._retrieval.ask(
            stub.GetDocument, request, context, translate.spell_file
        )
        return answers.vector_store_file(document, collection)

    async def _list(self, query: schema.FileListQuery, scope: Scope) -> schema.VectorStoreFileList:
        context = context_of(scope)
        if query.filter not in (None, "completed"):  # documents are there whole or not at all
            collection = await self._retrieval.collection(scope)
            nothing = service_pb2.ListDocumentsResponse()
            return answers.file_list(nothing, collection, backwards=False)
        page = translate.to_page(query)
        store_id: str = scope["path_params"]["store_id"]
        request = service_pb2.ListDocumentsRequest(
            parent=translate.store_name(context.principal, store_id),
            page_size=query.limit,
            order_by=page.order_by,
        )
        if page.after:
            request.after = translate.file_name(context.principal, store_id, page.after)
        stub = self._retrieval.stub
        collection, found = await asyncio.gather(
            self._retrieval.collection(scope),
            self._retrieval.ask(stub.ListDocuments, request, context, page.spell),
        )
        return answers.file_list(found, collection, backwards=page.backwards)


class OneVectorStoreFile:
    """`GET` and `DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}`, and its `/content`.

    IDs may contain slashes; one that ends in `/content` has to escape them.
    """

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        file_id: str = scope["path_params"]["file_id"]
        wants_content = scope["raw_path"].endswith(_CONTENT.encode("ascii"))
        if wants_content:
            file_id = file_id.removesuffix(_CONTENT)
        if not file_id:
            raise ProblemError(Problem("UNKNOWN_URL", "Invalid URL: the ID of a file is missing."))
        if scope["method"] == "DELETE":
            if wants_content:
                message = f"Not allowed to DELETE on {scope['path']}. Allowed: GET."
                raise ProblemError(Problem("METHOD_NOT_ALLOWED", message, allow="GET"))
            answer = await self._delete(scope, file_id)
        elif wants_content:
            view = document_pb2.DOCUMENT_VIEW_FULL
            answer = answers.file_content(await self._document(scope, file_id, view))
        else:
            collection, document = await asyncio.gather(
                self._retrieval.collection(scope),
                self._document(scope, file_id, document_pb2.DOCUMENT_VIEW_BASIC),
            )
            answer = answers.vector_store_file(document, collection)
        await send_json(send, msgspec.json.encode(answer))

    async def _delete(self, scope: Scope, file_id: str) -> schema.VectorStoreFileDeleted:
        context = context_of(scope)
        name = translate.file_name(context.principal, scope["path_params"]["store_id"], file_id)
        request = service_pb2.DeleteDocumentRequest(name=name)
        stub = self._retrieval.stub
        await self._retrieval.ask(stub.DeleteDocument, request, context, translate.spell_file)
        return schema.VectorStoreFileDeleted(file_id, "vector_store.file.deleted", deleted=True)

    async def _document(
        self, scope: Scope, file_id: str, view: "document_pb2.DocumentView.ValueType"
    ) -> document_pb2.Document:
        context = context_of(scope)
        name = translate.file_name(context.principal, scope["path_params"]["store_id"], file_id)
        request = service_pb2.GetDocumentRequest(name=name, view=view)
        stub = self._retrieval.stub
        return await self._retrieval.ask(stub.GetDocument, request, context, translate.spell_file)
