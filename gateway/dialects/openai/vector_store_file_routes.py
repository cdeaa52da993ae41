"""One file of a vector store: parse, translate, call, translate back."""

import asyncio

import msgspec
from penstock.retrieval.v1 import document_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.context import context_of
from gateway.dialects.openai import vector_store_answers as answers
from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.vector_store_routes import Retrieval
from gateway.errors import Problem, ProblemError

_CONTENT = "/content"


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
