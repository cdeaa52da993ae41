"""Vector stores: parse, translate, call, translate back."""

import asyncio

import msgspec
from penstock.retrieval.v1 import collection_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_each_while_there
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import vector_store_answers as answers
from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.vector_store_attachments import Attachments
from gateway.dialects.openai.vector_store_service import Retrieval
from gateway.errors import ProblemError
from gateway.queries import QueryDecoder
from gateway.validation import decode

_DEFAULT_RESULTS = 10
_MOST_TRIES = 3


class VectorStores:
    """`GET` and `POST /v1/vector_stores`."""

    def __init__(self, retrieval: Retrieval, attachments: Attachments) -> None:
        self._retrieval = retrieval
        self._attachments = attachments
        self._query = QueryDecoder(schema.StoreListQuery)
        self._decoder = msgspec.json.Decoder(schema.VectorStoreCreate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        if scope["method"] == "POST":
            limit = self._retrieval.settings.max_body_bytes
            body = decode(self._decoder, await read_body(scope, receive, limit))
            made = await self._create(body, context, receive)
            await send_json(send, msgspec.json.encode(answers.vector_store(made)))
        else:
            page = await self._list(self._query(scope), context)
            await send_json(send, msgspec.json.encode(page))

    async def _create(
        self, body: schema.VectorStoreCreate, context: RequestContext, receive: Receive
    ) -> collection_pb2.Collection:
        """Creates a store with its files. When one can't be attached, there is no store either."""
        stub = self._retrieval.stub
        request = translate.to_create_request(body, context.principal)
        files = await self._attachments.find(body.file_ids or (), context)
        made = await self._retrieval.ask(stub.CreateCollection, request, context)
        if not files:
            return made
        try:
            for param, file in files:
                await self._attachments.attach(file, made, context, receive, param=param)
        except BaseException:
            removal = service_pb2.DeleteCollectionRequest(name=made.name)
            await asyncio.shield(self._retrieval.ask(stub.DeleteCollection, removal, context))
            raise
        found = service_pb2.GetCollectionRequest(name=made.name)
        return await self._retrieval.ask(stub.GetCollection, found, context)

    async def _list(
        self, query: schema.StoreListQuery, context: RequestContext
    ) -> schema.VectorStoreList:
        page = translate.to_page(query)
        request = service_pb2.ListCollectionsRequest(
            parent=translate.tenant_name(context.principal),
            page_size=query.limit,
            order_by=page.order_by,
        )
        if page.after:
            request.after = translate.store_name(context.principal, page.after)
        stub = self._retrieval.stub
        found = await self._retrieval.ask(stub.ListCollections, request, context, page.spell)
        return answers.store_list(found, backwards=page.backwards)


class OneVectorStore:
    """`GET`, `POST` and `DELETE /v1/vector_stores/{vector_store_id}`."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval
        self._decoder = msgspec.json.Decoder(schema.VectorStoreUpdate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] == "DELETE":
            answer = await self._delete(scope)
        elif scope["method"] == "POST":
            limit = self._retrieval.settings.max_body_bytes
            body = decode(self._decoder, await read_body(scope, receive, limit))
            answer = answers.vector_store(await self._update(body, scope))
        else:
            answer = answers.vector_store(await self._retrieval.collection(scope))
        await send_json(send, msgspec.json.encode(answer))

    async def _delete(self, scope: Scope) -> schema.VectorStoreDeleted:
        context = context_of(scope)
        store_id: str = scope["path_params"]["store_id"]
        name = translate.store_name(context.principal, store_id)
        request = service_pb2.DeleteCollectionRequest(name=name)
        await self._retrieval.ask(self._retrieval.stub.DeleteCollection, request, context)
        return schema.VectorStoreDeleted(store_id, "vector_store.deleted", deleted=True)

    async def _update(
        self, body: schema.VectorStoreUpdate, scope: Scope
    ) -> collection_pb2.Collection:
        tries = 0
        while True:
            tries += 1
            collection = await self._retrieval.collection(scope)
            request = translate.to_update_request(body, collection)
            if not request.update_mask.paths:
                return collection
            try:
                stub = self._retrieval.stub
                return await self._retrieval.ask(stub.UpdateCollection, request, context_of(scope))
            except ProblemError as error:
                # Another update came between reading and writing: the caller named no state.
                if error.problem.reason != "CONFLICT" or tries == _MOST_TRIES:
                    raise


class VectorStoreSearches:
    """`POST /v1/vector_stores/{vector_store_id}/search`."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval
        self._decoder = msgspec.json.Decoder(schema.VectorStoreSearch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        settings = self._retrieval.settings
        body = decode(self._decoder, await read_body(scope, receive, settings.max_body_bytes))
        name = translate.store_name(context.principal, scope["path_params"]["store_id"])
        requests = translate.to_search_requests(body, name)
        try:
            responses = await ask_each_while_there(
                self._retrieval.stub.Search,
                requests,
                context,
                receive,
                settings.request_timeout_s,
            )
        except ProblemError as error:
            raise ProblemError(translate.spell_store(error.problem)) from None
        page = answers.search_results(responses, body, body.max_num_results or _DEFAULT_RESULTS)
        await send_json(send, msgspec.json.encode(page))
