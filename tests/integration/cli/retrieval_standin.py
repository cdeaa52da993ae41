# ruff: noqa: N802 - RPCs have their names from the protos
"""Stands in for RetrievalService: documents in memory, which are found by their words.

What a document says decides what happens to it: see `UpsertDocuments`.
"""

import asyncio
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from penstock.inference.v1 import event_pb2, usage_pb2
from penstock.retrieval.v1 import (
    answer_pb2,
    collection_pb2,
    document_pb2,
    retrieval_service_pb2,
    retrieval_service_pb2_grpc,
    search_pb2,
    upsert_pb2,
)

from services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QueueFull,
    Unavailable,
    Unsupported,
)
from services.rpc.access import Role, open_method, principal, requires

PAGE = 2


class Everything:
    """What one caller has."""

    def __init__(self) -> None:
        self.collections: dict[str, collection_pb2.Collection] = {}
        self.documents: dict[str, dict[str, document_pb2.Document]] = {}
        self.seen: set[str] = set()
        self.streams: list[list[str]] = []
        """Names that came in on each stream."""


def rejection(index: int, name: str, message: str) -> upsert_pb2.UpsertDocumentsEvent:
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=message)
    info = error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="penstock.dev")
    status.details.add().Pack(info)
    return upsert_pb2.UpsertDocumentsEvent(
        rejected=upsert_pb2.Rejected(index=index, name=name, status=status)
    )


class Retrieval(retrieval_service_pb2_grpc.RetrievalServiceServicer):
    def __init__(self, events: Path) -> None:
        self._events = events
        self._all: defaultdict[str, Everything] = defaultdict(Everything)

    @property
    def mine(self) -> Everything:
        return self._all[principal().id]

    def collection(self, name: str) -> collection_pb2.Collection:
        if name not in self.mine.collections:
            raise NotFound(f"There is no collection {name!r}.", field="name")
        return self.mine.collections[name]

    @requires(Role.USER)
    async def CreateCollection(self, request: Any, context: Any) -> Any:
        if request.collection.embedding_model == "nonsense":
            raise InvalidArgument("There is no such model.", field="collection.embedding_model")
        name = f"{request.parent}/collections/{request.collection_id}"
        if name in self.mine.collections:
            raise AlreadyExists(f"The collection {name!r} exists.", field="collection_id")
        model = request.collection.embedding_model or "minilm"
        made = collection_pb2.Collection(name=name, embedding_model=model)
        self.mine.collections[name] = made
        self.mine.documents[name] = {}
        return made

    @requires(Role.USER)
    async def GetCollection(self, request: Any, context: Any) -> Any:
        return self.collection(request.name)

    @requires(Role.USER)
    async def ListCollections(self, request: Any, context: Any) -> Any:
        found = [
            collection
            for name, collection in self.mine.collections.items()
            if name.startswith(request.parent + "/")
        ]
        for collection in found:
            collection.document_count = len(self.mine.documents[collection.name])
        start = int(request.page_token or 0)
        token = str(start + PAGE) if start + PAGE < len(found) else ""
        return retrieval_service_pb2.ListCollectionsResponse(
            collections=found[start : start + PAGE], next_page_token=token
        )

    @requires(Role.USER)
    async def DeleteCollection(self, request: Any, context: Any) -> Any:
        self.collection(request.name)
        del self.mine.collections[request.name]
        return empty_pb2.Empty()

    @requires(Role.USER)
    async def UpsertDocuments(self, requests: Any, context: Any) -> Any:
        """Commits every two documents. Refuses those that say `reject`; when one says `break`,
        `busy` or `cut`, the stream fails or ends there, once for each text."""
        mine, finish = self.mine, upsert_pb2.UpsertFinish()
        stream: list[str] = []
        mine.streams.append(stream)
        (self._events / f"{principal().id}.streams").write_text(repr(mine.streams))
        index, told = -1, list[str]()
        documents: dict[str, document_pb2.Document] = {}
        parent = ""
        async for request in requests:
            if request.WhichOneof("payload") == "start":
                parent = request.start.collection
                self.collection(parent)
                documents = mine.documents[parent]
                continue
            index += 1
            document = request.document
            stream.append(document.name)
            (self._events / f"{principal().id}.streams").write_text(repr(mine.streams))
            said = document.data.decode("utf-8", "replace").strip()
            if said.startswith(("break", "busy", "cut")) and said not in mine.seen:
                mine.seen.add(said)
                match said.split()[0]:
                    case "break":
                        raise Unavailable("The embedding service is away.")
                    case "busy":
                        raise QueueFull("The queue is full.", retry_after_s=0.01)
                    case _:
                        return
            if said == "break for ever":
                raise Unavailable("The embedding service is away.")
            if said.startswith("reject"):
                finish.rejected_count += 1
                yield rejection(index, document.name, f"It says {said}.")
            else:
                id_ = document.name
                old = documents.get(id_)
                sha256 = hashlib.sha256(document.data).hexdigest()
                if old is None:
                    finish.created_count += 1
                elif old.content_sha256 != sha256:
                    finish.replaced_count += 1
                else:
                    finish.unchanged_count += 1
                documents[id_] = document_pb2.Document(
                    name=f"{parent}/documents/{id_}",
                    title=said.partition("\n")[0].removeprefix("# "),
                    text=said,
                    mime_type=document.mime_type,
                    content_sha256=sha256,
                    chunk_count=1,
                    token_count=len(said.split()),
                )
                finish.embedded_chunk_count += old is None or old.content_sha256 != sha256
                finish.embedded_token_count += len(said.split())
                told.append(documents[id_].name)
            if index % 2:
                yield upsert_pb2.UpsertDocumentsEvent(
                    committed=upsert_pb2.Committed(settled_count=index + 1, names=told)
                )
                told = []
        yield upsert_pb2.UpsertDocumentsEvent(finish=finish)

    @requires(Role.USER)
    async def GetDocument(self, request: Any, context: Any) -> Any:
        parent, _, id_ = request.name.partition("/documents/")
        self.collection(parent)
        if id_ not in self.mine.documents[parent]:
            raise NotFound(f"There is no document {id_!r}.", field="name")
        return self.mine.documents[parent][id_]

    @requires(Role.USER)
    async def ListDocuments(self, request: Any, context: Any) -> Any:
        self.collection(request.parent)
        found = list(self.mine.documents[request.parent].values())
        start = int(request.page_token or 0)
        size = min(PAGE, request.page_size)
        token = str(start + size) if start + size < len(found) else ""
        return retrieval_service_pb2.ListDocumentsResponse(
            documents=found[start : start + size], next_page_token=token
        )

    @requires(Role.USER)
    async def DeleteDocuments(self, request: Any, context: Any) -> Any:
        self.collection(request.parent)
        documents = self.mine.documents[request.parent]
        ids = [name.partition("/documents/")[2] for name in request.names]
        count = sum(documents.pop(id_, None) is not None for id_ in ids)
        return retrieval_service_pb2.DeleteDocumentsResponse(deleted_count=count)

    @requires(Role.USER)
    async def Answer(self, request: Any, context: Any) -> Any:
        name = f"{request.parent}/collections/{request.context.collection_id}"
        self.collection(name)
        words = set(request.query.lower().split())
        hits = [
            search_pb2.Hit(
                document=document.name, text=document.text, title=document.title, score=0.5
            )
            for document in self.mine.documents[name].values()
            if words & set(document.text.lower().split())
        ][: request.context.max_object_count]
        if not hits:
            raise FailedPrecondition("Nothing was found to answer from.")
        yield answer_pb2.AnswerEvent(retrieved=answer_pb2.Retrieved(hits=hits))
        started = event_pb2.ChatEvent(started=event_pb2.Started(id="c-1", model=request.model))
        yield answer_pb2.AnswerEvent(chat=started)
        if "forever" in words:
            try:
                while True:
                    yield _said("again ")
                    await asyncio.sleep(0.02)
            finally:
                (self._events / principal().id).write_text("cancelled")
        for word in f"{request.model} says: it is \x1b[31mred".split(" "):
            yield _said(word + " ")
        if "cut" in words:
            return
        reason = event_pb2.FINISH_REASON_STOP
        finished = event_pb2.ChatEvent(finished=event_pb2.Finished(reason=reason))
        yield answer_pb2.AnswerEvent(chat=finished)
        usage = usage_pb2.Usage(prompt_tokens=3, completion_tokens=5, total_tokens=8)
        done = event_pb2.ChatEvent(done=event_pb2.Done(usage=usage))
        yield answer_pb2.AnswerEvent(chat=done)

    @open_method
    async def UpdateCollection(self, request: Any, context: Any) -> Any:
        raise Unsupported("not here")

    DeleteDocument = Search = PutPrompt = GetPrompt = ListPrompts = DeletePrompt = UpdateCollection


def _said(text: str) -> answer_pb2.AnswerEvent:
    return answer_pb2.AnswerEvent(chat=event_pb2.ChatEvent(delta=event_pb2.Delta(text=text)))
