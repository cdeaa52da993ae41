"""Loads files over one stream, and goes on after the last settled one when the stream breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio
from penstock.retrieval.v1 import retrieval_service_pb2, upsert_pb2
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

from services.cli.document_files import SourceFile, UnreadableError
from services.cli.failures import Failure, Peer, explain, status_failure

MOST_RETRIES = 7
FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True)
class Refusal:
    """A file that did not become a document."""

    id: str
    reason: str
    message: str


@dataclass
class Summary:
    """What a load did, as far as it came."""

    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    resumed: int = 0
    """Stored by a stream that broke before it said how."""
    embedded_chunks: int = 0
    embedded_tokens: int = 0
    refusals: list[Refusal] = field(default_factory=list[Refusal])

    def add(self, finish: upsert_pb2.UpsertFinish) -> None:
        """Takes what a stream says at its end."""
        self.created += finish.created_count
        self.replaced += finish.replaced_count
        self.unchanged += finish.unchanged_count
        self.embedded_chunks += finish.embedded_chunk_count
        self.embedded_tokens += finish.embedded_token_count

    def to_dict(self) -> Mapping[str, Any]:
        """Returns what scripts get."""
        return {
            "created_count": self.created,
            "replaced_count": self.replaced,
            "unchanged_count": self.unchanged,
            "resumed_count": self.resumed,
            "embedded_chunk_count": self.embedded_chunks,
            "embedded_token_count": self.embedded_tokens,
            "rejected": [vars(refusal) for refusal in self.refusals],
        }


class Upload:
    """Loads files into a collection."""

    def __init__(
        self,
        stub: RetrievalServiceStub,
        peer: Peer,
        collection: str,
        files: Sequence[SourceFile],
        *,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Takes the collection's name and the files.

        `progress` is told how many files are settled.
        """
        self.summary = Summary()
        self.settled = 0
        """Files that are stored or refused."""
        self._stub = stub
        self._peer = peer
        self._collection = collection
        self._waiting = list(files)
        self._progress = progress

    async def run(self) -> Summary:
        """Loads them. Raises AioRpcError, or Failure for a stream that ends before its time."""
        attempts = 0
        while True:
            before = self.settled
            stream = _Stream(self._collection, self._waiting)
            try:
                await self._follow(stream)
            except (aio.AioRpcError, Failure) as error:
                self._resume_after(stream)
                attempts = 0 if self.settled > before else attempts + 1
                pause_s = self._pause_s(error, attempts)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return self.summary

    async def _follow(self, stream: "_Stream") -> None:
        call = self._stub.UpsertDocuments(stream.requests())
        try:
            async for event in call:
                match event.WhichOneof("event"):
                    case "committed":
                        stream.settled = event.committed.settled_count
                        self._tell(stream)
                    case "rejected":
                        self._reject(stream, event.rejected)
                    case "finish":
                        self.summary.add(event.finish)
                        self._settle(stream, len(stream.sent))
                        return
                    case _:
                        pass
        finally:
            call.cancel()
        raise Failure("The load was cut short: the stream ended before its last event.")

    def _reject(self, stream: "_Stream", rejected: upsert_pb2.Rejected) -> None:
        failure = status_failure(rejected.status)
        id_ = stream.sent[rejected.index].id
        stream.rejected.append((rejected.index, Refusal(id_, failure.reason, failure.message)))

    def _tell(self, stream: "_Stream") -> None:
        self._progress(self.settled + stream.settled + len(stream.unreadable))

    def _resume_after(self, stream: "_Stream") -> None:
        """Keeps what a broken stream settled, and leaves the rest waiting."""
        self._settle(stream, stream.settled)
        self.summary.resumed += stream.settled - sum(
            index < stream.settled for index, _ in stream.rejected
        )

    def _settle(self, stream: "_Stream", count: int) -> None:
        self.summary.refusals += stream.unreadable
        self.summary.refusals += [refusal for index, refusal in stream.rejected if index < count]
        done = {file.id for file in stream.sent[:count]}
        done |= {refusal.id for refusal in stream.unreadable}
        self._waiting = [file for file in self._waiting if file.id not in done]
        self.settled += len(done)
        self._progress(self.settled)

    def _pause_s(self, error: aio.AioRpcError | Failure, attempts: int) -> float | None:
        """Returns how long to wait before trying again; None when that is of no use."""
        if attempts > MOST_RETRIES:
            return None
        pause_s = min(_LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, attempts - 1))
        if isinstance(error, Failure):
            return pause_s
        named_s = explain(error, self._peer).retry_after_s
        if named_s is None and not _is_broken(error):
            return None
        return max(pause_s, named_s or 0.0)


def _is_broken(error: aio.AioRpcError) -> bool:
    """Whether the connection failed, and not what was asked. Of a stream that breaks while it is
    written, gRPC's own library may say INTERNAL; what a service says comes with details."""
    if error.code() is grpc.StatusCode.INTERNAL:
        return "grpc-status-details-bin" not in dict(error.trailing_metadata() or ())
    return error.code() is grpc.StatusCode.UNAVAILABLE


@dataclass
class _Stream:
    """One stream of a load."""

    collection: str
    files: Sequence[SourceFile]
    sent: list[SourceFile] = field(default_factory=list[SourceFile])
    """In the order of the stream, by which the service counts."""
    settled: int = 0
    rejected: list[tuple[int, Refusal]] = field(default_factory=list[tuple[int, Refusal]])
    unreadable: list[Refusal] = field(default_factory=list[Refusal])

    async def requests(self) -> AsyncIterator[retrieval_service_pb2.UpsertDocumentsRequest]:
        """Yields what is sent."""
        yield retrieval_service_pb2.UpsertDocumentsRequest(
            start=upsert_pb2.UpsertStart(collection=self.collection)
        )
        for file in self.files:
            try:
                document = await asyncio.to_thread(file.read)
            except UnreadableError as error:
                self.unreadable.append(Refusal(file.id, "UNREADABLE", str(error)))
                continue
            self.sent.append(file)
            yield retrieval_service_pb2.UpsertDocumentsRequest(document=document)
