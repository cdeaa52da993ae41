"""RetrievalService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from penstock.inference.v1 import event_pb2 as event_pb
from penstock.retrieval.v1 import answer_pb2 as answer_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import prompt_pb2 as prompt_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import upsert_pb2 as upsert_pb
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceServicer

from services.errors import DomainError, MessageTooLarge
from services.retrieval import convert, convert_search
from services.retrieval.answering import Answering, Retrieved, default_prompt
from services.retrieval.callers import (
    Context,
    caller_of,
    check_priority,
    check_same,
    collection_of,
    document_of,
    prompt_of,
    tenant_of,
)
from services.retrieval.catalog import Collections
from services.retrieval.clients import InferenceClient
from services.retrieval.documents import Documents
from services.retrieval.ingest import Ingest
from services.retrieval.names import (
    PromptRef,
)
from services.retrieval.paging import Asked
from services.retrieval.prompts import Message, NewPrompt, Prompts
from services.retrieval.searching import Searching
from services.retrieval.streams import Requests, incoming_of, start_of
from services.rpc.access import Role, requires, validates_itself
from services.rpc.transport import MAX_MESSAGE_BYTES

_CREDENTIALS = ("authorization", "x-api-key")
_ASCENDING = "create_time"
_Answer = TypeVar("_Answer", pb.SearchResponse, answer_pb.AnswerEvent)


@dataclass(frozen=True, slots=True)
class Domain:
    """What answers the calls."""

    collections: Collections
    documents: Documents
    ingest: Ingest
    prompts: Prompts
    searching: Searching
    answering: Answering


class RetrievalServicer(RetrievalServiceServicer):
    """Serves `penstock.retrieval.v1.RetrievalService`."""

    def __init__(self, domain: Domain, inference: InferenceClient) -> None:
        self._domain = domain
        self._inference = inference

    @requires(Role.USER)
    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> collection_pb.Collection:
        """Creates a collection."""
        asked = convert.to_new_collection(request, tenant_of(request.parent, "parent"))
        return convert.from_collection(
            await self._domain.collections.create(asked, caller_of(context))
        )

    @requires(Role.USER)
    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: Context
    ) -> collection_pb.Collection:
        """Gets one collection."""
        ref = collection_of(request.name, "name")
        return convert.from_collection(await self._domain.collections.get(ref))

    @requires(Role.USER)
    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: Context
    ) -> pb.ListCollectionsResponse:
        """Lists the collections of a tenant."""
        tenant = tenant_of(request.parent, "parent")
        after = ""
        if request.after:
            ref = collection_of(request.after, "after")
            check_same(ref.tenant, tenant, "after")
            after = ref.id
        asked = Asked(request.page_size, request.page_token, after, request.order_by != _ASCENDING)
        page = await self._domain.collections.list(tenant, asked)
        return pb.ListCollectionsResponse(
            collections=[convert.from_collection(one) for one in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.USER)
    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> collection_pb.Collection:
        """Changes a collection."""
        ref = collection_of(request.collection.name, "collection.name")
        change = convert.to_change(request, await self._domain.collections.get(ref))
        return convert.from_collection(
            await self._domain.collections.change(ref, change, caller_of(context))
        )

    @requires(Role.USER)
    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> Empty:
        """Deletes a collection with everything in it."""
        await self._domain.collections.delete(collection_of(request.name, "name"))
        return Empty()

    @requires(Role.USER)
    @validates_itself
    async def UpsertDocuments(
        self, request_iterator: AsyncIterator[pb.UpsertDocumentsRequest], context: Context
    ) -> AsyncGenerator[upsert_pb.UpsertDocumentsEvent, None]:
        """Puts documents in."""
        async with aclosing(Requests(request_iterator)) as requests:
            try:
                start = await start_of(requests)
                events = self._domain.ingest.upsert(
                    start, incoming_of(requests), caller_of(context)
                )
                async with aclosing(events):
                    async for event in events:
                        yield convert_search.from_upsert_event(event)
            except DomainError:
                await requests.discard()
                raise

    @requires(Role.USER)
    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> document_pb.Document:
        """Gets one document."""
        ref = document_of(request.name, "name")
        document = await self._domain.documents.get(
            ref, with_text=request.view != document_pb.DOCUMENT_VIEW_BASIC
        )
        return convert.from_document(document, ref.collection)

    @requires(Role.USER)
    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        """Lists the documents of a collection."""
        ref = collection_of(request.parent, "parent")
        after = ""
        if request.after:
            last = document_of(request.after, "after")
            check_same(last.collection, ref, "after")
            after = last.id
        asked = Asked(request.page_size, request.page_token, after, request.order_by != _ASCENDING)
        page = await self._domain.documents.list(
            ref, asked, with_text=request.view == document_pb.DOCUMENT_VIEW_FULL
        )
        return pb.ListDocumentsResponse(
            documents=[convert.from_document(one, ref) for one in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.USER)
    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> Empty:
        """Deletes one document."""
        await self._domain.documents.delete(document_of(request.name, "name"))
        return Empty()

    @requires(Role.USER)
    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: Context
    ) -> pb.DeleteDocumentsResponse:
        """Deletes documents by name or by filter."""
        ref = collection_of(request.parent, "parent")
        filter = convert_search.to_filter(request.filter) if request.HasField("filter") else None
        count = await self._domain.documents.delete_many(ref, request.names, filter)
        return pb.DeleteDocumentsResponse(deleted_count=count)

    @requires(Role.USER)
    async def PutPrompt(self, request: pb.PutPromptRequest, context: Context) -> prompt_pb.Prompt:
        """Puts a prompt in, or replaces it."""
        asked = NewPrompt(
            prompt_of(request.prompt.name, "prompt.name"),
            convert.to_messages(request.prompt.messages),
            request.prompt.etag,
        )
        return convert.from_prompt(await self._domain.prompts.put(asked))

    @requires(Role.USER)
    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> prompt_pb.Prompt:
        """Gets one prompt."""
        return convert.from_prompt(await self._domain.prompts.get(prompt_of(request.name, "name")))

    @requires(Role.USER)
    async def ListPrompts(
        self, request: pb.ListPromptsRequest, context: Context
    ) -> pb.ListPromptsResponse:
        """Lists the prompts of a tenant."""
        tenant = tenant_of(request.parent, "parent")
        asked = Asked(request.page_size, request.page_token)
        page = await self._domain.prompts.list(tenant, asked)
        return pb.ListPromptsResponse(
            prompts=[convert.from_prompt(one) for one in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.USER)
    async def DeletePrompt(self, request: pb.DeletePromptRequest, context: Context) -> Empty:
        """Deletes one prompt."""
        await self._domain.prompts.delete(prompt_of(request.name, "name"))
        return Empty()

    @requires(Role.USER)
    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Finds passages."""
        ref = collection_of(request.collection, "collection")
        query = convert_search.to_query(request)
        check_priority(query.priority, "priority")
        found = await self._domain.searching.search(ref, query, caller_of(context))
        return _fitting(convert_search.from_found(found), "top_k")

    @requires(Role.USER)
    async def Answer(
        self, request: pb.AnswerRequest, context: Context
    ) -> AsyncGenerator[answer_pb.AnswerEvent, None]:
        """Answers a question from documents."""
        tenant = tenant_of(request.parent, "parent")
        question = convert_search.to_question(request, tenant, _asked_prompt(request, tenant))
        check_priority(question.query.priority, "priority")
        caller = caller_of(context)

        def talk(messages: Sequence[Message]) -> AsyncGenerator[event_pb.ChatEvent, None]:
            return self._inference.chat(convert_search.to_chat(request, messages), caller)

        async with aclosing(self._domain.answering.answer(question, talk, caller)) as events:
            async for event in events:
                if isinstance(event, Retrieved):
                    retrieved = convert_search.from_retrieved(event.found)
                    yield _fitting(retrieved, "context.max_object_count")
                else:
                    yield answer_pb.AnswerEvent(chat=event)


def _asked_prompt(request: pb.AnswerRequest, tenant: str) -> PromptRef | None:
    """Returns the stored prompt that a question names, or the default; None for none."""
    if not request.HasField("prompt"):
        return default_prompt(tenant)
    if not request.prompt.name:
        return None
    ref = prompt_of(request.prompt.name, "prompt.name")
    check_same(ref.tenant, tenant, "prompt.name")
    return ref


def _fitting(answer: _Answer, field: str) -> _Answer:
    """Returns the answer. Raises `MessageTooLarge` where no message can hold it."""
    if answer.ByteSize() > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"'{field}': what was found does not fit into a message. Ask for less.", field=field
        )
    return answer
