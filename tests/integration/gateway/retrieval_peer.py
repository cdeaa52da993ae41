"""A peer for the edge: the retrieval service over real gRPC, with everything in memory.

A hit's score is the share of the query's words that a document has. Queries `waiting` never end;
`fails-REASON-PATH` fails naming a field, as text of a search and as name of a collection.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf import empty_pb2, json_format
from penstock.retrieval.v1 import (
    collection_pb2,
    document_pb2,
    retrieval_service_pb2_grpc,
    upsert_pb2,
)
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2

from tests.integration.gateway.edge_backend import CODES, CREATED, failure

Item = TypeVar("Item", collection_pb2.Collection, document_pb2.Document)


class RetrievalPeer(retrieval_service_pb2_grpc.RetrievalServiceServicer):
    def __init__(self) -> None:
        self.collections: dict[str, collection_pb2.Collection] = {}
        self.documents: dict[str, document_pb2.Document] = {}
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.live = 0
        self.conflicts = 0
        """Updates that find a newer state before they succeed."""
        self._numbers = itertools.count()

    def put(self, store: str, file: str, text: str, /, **properties: Any) -> None:
        name = f"{store}/documents/{file}"
        document = document_pb2.Document(name=name, title=f"{file}.md", text=text, chunk_count=2)
        document.create_time.seconds = CREATED + next(self._numbers)
        json_format.ParseDict(properties, document.properties)
        self.documents[name] = document
        self.collections[store].document_count += 1

    def expires(self, collection: collection_pb2.Collection) -> None:
        """Computes when a collection expires, if that follows from its last use."""
        if collection.HasField("expire_after"):
            last = max(collection.update_time.seconds, collection.last_search_time.seconds)
            collection.expire_time.seconds = last + collection.expire_after.seconds

    async def CreateCollection(
        self, request: service_pb2.CreateCollectionRequest, context: Any
    ) -> collection_pb2.Collection:
        await self._enter(request, request.collection.display_name, context)
        number = next(self._numbers)
        made = collection_pb2.Collection()
        made.CopyFrom(request.collection)
        made.name = f"{request.parent}/collections/vs_{number}"
        made.etag = "0"
        made.dimensions = request.collection.dimensions or 8
        made.embedding_model = f"models/{request.collection.embedding_model or 'default'}"
        made.create_time.seconds = made.update_time.seconds = CREATED + number
        self.expires(made)
        self.collections[made.name] = made
        return made

    async def GetCollection(
        self, request: service_pb2.GetCollectionRequest, context: Any
    ) -> collection_pb2.Collection:
        await self._enter(request, request.name, context)
        return await self._collection(request.name, context)

    async def ListCollections(
        self, request: service_pb2.ListCollectionsRequest, context: Any
    ) -> service_pb2.ListCollectionsResponse:
        await self._enter(request, "", context)
        prefix = f"{request.parent}/"
        items = [item for name, item in self.collections.items() if name.startswith(prefix)]
        found, more = await self._page(items, request, context)
        return service_pb2.ListCollectionsResponse(
            collections=found, next_page_token="more" if more else ""
        )

    async def UpdateCollection(
        self, request: service_pb2.UpdateCollectionRequest, context: Any
    ) -> collection_pb2.Collection:
        await self._enter(request, "", context)
        kept = await self._collection(request.collection.name, context)
        if self.conflicts:
            self.conflicts -= 1
            kept.etag += "'"
        if request.collection.etag and request.collection.etag != kept.etag:
            await self._abort(context, "CONFLICT", "collection.etag")
        for path in request.update_mask.paths:
            if path == "metadata":
                kept.metadata.clear()
                kept.metadata.update(request.collection.metadata)
            elif path == "expire_after":
                kept.expire_after.CopyFrom(request.collection.expire_after)
            else:
                setattr(kept, path, getattr(request.collection, path))
        kept.etag += "+"
        self.expires(kept)
        return kept

    async def DeleteCollection(
        self, request: service_pb2.DeleteCollectionRequest, context: Any
    ) -> empty_pb2.Empty:
        await self._enter(request, request.name, context)
        await self._collection(request.name, context)
        del self.collections[request.name]
        return empty_pb2.Empty()

    async def UpsertDocuments(
        self, request_iterator: AsyncIterator[service_pb2.UpsertDocumentsRequest], context: Any
    ) -> AsyncIterator[upsert_pb2.UpsertDocumentsEvent]:
        """Refuses what says `reject-REASON-PATH`; `cut` ends it without a finish."""
        parent, index = "", 0
        async for request in request_iterator:
            await self._enter(request, "", context)
            if request.HasField("start"):
                parent = (await self._collection(request.start.collection, context)).name
                continue
            text = request.document.data.decode()
            if text == "cut":
                return
            if text.startswith("reject-"):
                status = failure(*text.split("-")[1:])
                yield upsert_pb2.UpsertDocumentsEvent(
                    rejected=upsert_pb2.Rejected(index=index, status=status)
                )
            else:
                self.put(parent, request.document.name, text)
                document = self.documents[f"{parent}/documents/{request.document.name}"]
                document.title = request.document.title
                document.properties.CopyFrom(request.document.properties)
            index += 1
        yield upsert_pb2.UpsertDocumentsEvent(finish=upsert_pb2.UpsertFinish(created_count=index))

    async def GetDocument(
        self, request: service_pb2.GetDocumentRequest, context: Any
    ) -> document_pb2.Document:
        await self._enter(request, "", context)
        document = await self._document(request.name, context)
        found = document_pb2.Document()
        found.CopyFrom(document)
        if request.view == document_pb2.DOCUMENT_VIEW_BASIC:
            found.ClearField("text")
        return found

    async def ListDocuments(
        self, request: service_pb2.ListDocumentsRequest, context: Any
    ) -> service_pb2.ListDocumentsResponse:
        await self._enter(request, "", context)
        await self._collection(request.parent, context, "parent")
        prefix = f"{request.parent}/"
        items = [item for name, item in self.documents.items() if name.startswith(prefix)]
        found, more = await self._page(items, request, context)
        return service_pb2.ListDocumentsResponse(
            documents=found, next_page_token="more" if more else ""
        )

    async def DeleteDocument(
        self, request: service_pb2.DeleteDocumentRequest, context: Any
    ) -> empty_pb2.Empty:
        await self._enter(request, "", context)
        await self._document(request.name, context)
        del self.documents[request.name]
        return empty_pb2.Empty()

    async def Search(
        self, request: service_pb2.SearchRequest, context: Any
    ) -> service_pb2.SearchResponse:
        await self._enter(request, request.text, context)
        await self._collection(request.collection, context, "collection")
        if request.text == "waiting":
            self.live += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.live -= 1
        words = set(request.text.split())
        response = service_pb2.SearchResponse()
        for name, document in self.documents.items():
            score = len(words & set(document.text.split())) / len(words)
            if name.startswith(f"{request.collection}/") and score >= (request.min_score or 0.01):
                response.hits.add(
                    document=name,
                    text=document.text,
                    title=document.title,
                    score=score,
                    properties=document.properties,
                )
        hits = sorted(response.hits, key=lambda hit: -hit.score)[: request.top_k or 10]
        return service_pb2.SearchResponse(hits=hits)

    async def _collection(
        self, name: str, context: Any, param: str = "name"
    ) -> collection_pb2.Collection:
        if name not in self.collections:
            await self._abort(context, "NOT_FOUND", param)
        return self.collections[name]

    async def _document(self, name: str, context: Any) -> document_pb2.Document:
        if name not in self.documents:
            await self._abort(context, "NOT_FOUND", "name")
        return self.documents[name]

    async def _page(
        self, items: Sequence[Item], request: Any, context: Any
    ) -> tuple[list[Item], bool]:
        ordered = sorted(items, key=lambda item: item.create_time.seconds)
        if request.order_by != "create_time":
            ordered.reverse()
        if request.after:
            names = [item.name for item in ordered]
            if request.after not in names:
                await self._abort(context, "INVALID_ARGUMENT", "after")
            ordered = ordered[names.index(request.after) + 1 :]
        return ordered[: request.page_size], len(ordered) > request.page_size

    async def _enter(self, request: Any, script: str, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if "fails-" in script:
            _, reason, *param = script.split("-")
            await self._abort(context, reason, param[0] if param else None)

    async def _abort(self, context: Any, reason: str, param: str | None) -> None:
        status = failure(reason, param)
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES[reason], status.message, details)


def serve(peer: RetrievalPeer, server: grpc.aio.Server) -> None:
    retrieval_service_pb2_grpc.add_RetrievalServiceServicer_to_server(peer, server)
