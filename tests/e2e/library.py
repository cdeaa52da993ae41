"""Documents of the running platform: put in and asked over gRPC, and from the command line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import httpx
from google.rpc import error_details_pb2, status_pb2
from penstock.inference.v1 import sampling_pb2
from penstock.retrieval.v1 import (
    answer_pb2,
    collection_pb2,
    document_pb2,
    retrieval_service_pb2,
    search_pb2,
    upsert_pb2,
)
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

from tests.e2e.stack import Platform

CHAT, EMBEDDER = "penstock-starter", "all-minilm-l6-v2"
PENSTOCK = Path(sys.executable).with_name("penstock")
TIMEOUT_S = 240

Result = TypeVar("Result")


class Library:
    """RetrievalService as one key sees it."""

    def __init__(self, channel: grpc.Channel, key: str, tenant: str = "default") -> None:
        self.tenant = f"tenants/{tenant}"
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.stub = RetrievalServiceStub(channel)

    def name(self, collection: str, document: str = "") -> str:
        below = f"/documents/{document}" if document else ""
        return f"{self.tenant}/collections/{collection}{below}"

    def create(self, collection: str) -> collection_pb2.Collection:
        request = retrieval_service_pb2.CreateCollectionRequest(
            parent=self.tenant,
            collection=collection_pb2.Collection(embedding_model=EMBEDDER),
            collection_id=collection,
        )
        return self.stub.CreateCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    def get(self, collection: str) -> collection_pb2.Collection:
        request = retrieval_service_pb2.GetCollectionRequest(name=self.name(collection))
        return self.stub.GetCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    def drop(self, collection: str) -> None:
        request = retrieval_service_pb2.DeleteCollectionRequest(name=self.name(collection))
        with contextlib.suppress(grpc.RpcError):  # a test that failed may have made none
            self.stub.DeleteCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    def upsert(
        self, collection: str, documents: Iterable[document_pb2.Document]
    ) -> Iterator[upsert_pb2.UpsertDocumentsEvent]:
        """Opens a stream of documents; they are taken from the iterable as it is read."""

        def words() -> Iterator[retrieval_service_pb2.UpsertDocumentsRequest]:
            start = upsert_pb2.UpsertStart(collection=self.name(collection))
            yield retrieval_service_pb2.UpsertDocumentsRequest(start=start)
            for document in documents:
                yield retrieval_service_pb2.UpsertDocumentsRequest(document=document)

        return self.stub.UpsertDocuments(words(), metadata=self.metadata, timeout=TIMEOUT_S)

    def put(
        self, collection: str, documents: Iterable[document_pb2.Document]
    ) -> upsert_pb2.UpsertFinish:
        """Puts documents in, all of them."""
        *_, last = self.upsert(collection, documents)
        assert last.HasField("finish"), last
        assert last.finish.rejected_count == 0, last
        return last.finish

    def delete(self, collection: str, document: str) -> None:
        request = retrieval_service_pb2.DeleteDocumentRequest(name=self.name(collection, document))
        self.stub.DeleteDocument(request, metadata=self.metadata, timeout=TIMEOUT_S)

    def documents(self, collection: str) -> list[document_pb2.Document]:
        request = retrieval_service_pb2.ListDocumentsRequest(
            parent=self.name(collection), page_size=1000
        )
        found: list[document_pb2.Document] = []
        while True:
            page = self.stub.ListDocuments(request, metadata=self.metadata, timeout=TIMEOUT_S)
            found += page.documents
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def search(
        self,
        collection: str,
        text: str,
        mode: search_pb2.SearchMode.ValueType = search_pb2.SEARCH_MODE_VECTOR,
    ) -> list[search_pb2.Hit]:
        request = retrieval_service_pb2.SearchRequest(
            collection=self.name(collection), text=text, mode=mode, top_k=5
        )
        answer = self.stub.Search(request, metadata=self.metadata, timeout=TIMEOUT_S)
        return list(answer.hits)

    def answer(
        self, collection: str, question: str, **sampling: float
    ) -> Iterator[answer_pb2.AnswerEvent]:
        """Opens the stream of an answer; greedy unless told otherwise."""
        return self.stub.Answer(
            self.question(collection, question, **sampling),
            metadata=self.metadata,
            timeout=TIMEOUT_S,
        )

    def question(
        self, collection: str, question: str, **sampling: float
    ) -> retrieval_service_pb2.AnswerRequest:
        return retrieval_service_pb2.AnswerRequest(
            parent=self.tenant,
            model=CHAT,
            query=question,
            context=answer_pb2.AnswerContext(collection_id=collection),
            sampling=sampling_pb2.Sampling(**({"temperature": 0} | sampling)),  # type: ignore[arg-type]
        )


@contextlib.contextmanager
def library(platform: Platform, key: str = "", tenant: str = "default") -> Iterator[Library]:
    """Opens the service for a key, the admin's unless told otherwise."""
    # One that reconnects at once: the service may have been killed a moment ago.
    options = [("grpc.max_reconnect_backoff_ms", 500)]
    with grpc.insecure_channel(platform.address("retrieval"), options) as channel:
        yield Library(channel, key or platform.key, tenant)


def text_of(events: Iterable[answer_pb2.AnswerEvent]) -> str:
    return "".join(event.chat.delta.text for event in events)


def document(id_: str, text: str) -> document_pb2.Document:
    return document_pb2.Document(name=id_, text=text)


def sentences(count: int) -> list[document_pb2.Document]:
    """Made-up sentences, each with a name of its own in it."""
    return [
        document(f"house-{i}", f"The house number {i} in Arlo has {i % 7 + 2} windows.")
        for i in range(count)
    ]


def reasons(error: grpc.RpcError) -> list[str]:
    """The reasons in an error's details: one for every error that a service tells of itself."""
    assert isinstance(error, grpc.Call)
    found: list[str] = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    found.append(info.reason)
    return found


def environment(platform: Platform, key: str = "") -> dict[str, str]:
    """The environment of a command that talks to the platform."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    own["PENSTOCK_DATA_DIR"] = str(platform.data_dir)
    own["PENSTOCK_CONFIG"] = str(platform.data_dir.parent / "penstock.toml")
    if key:
        own["PENSTOCK_API_KEY"] = key
    return own


def penstock(
    platform: Platform, *arguments: str, key: str = "", cwd: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, which has to be the one that is expected."""
    done = subprocess.run(
        [str(PENSTOCK), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=cwd or platform.data_dir,
        env=environment(platform, key),
    )
    assert done.returncode == status, (arguments, done)
    assert "Traceback" not in done.stdout + done.stderr, done
    return done


def again(call: Callable[[], Result], within_s: float = 120) -> Result:
    """Calls until a service that was away is back: until then it has to say so."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return call()
        except (grpc.RpcError, httpx.HTTPStatusError) as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def is_away(error: grpc.RpcError | httpx.HTTPStatusError) -> bool:
    """Tells whether an error says that the service, or one behind it, can't be reached for now."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE
