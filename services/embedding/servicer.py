"""EmbeddingService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from typing import Any

from google.protobuf.message import Message
from penstock.embedding.v1 import embedding_service_pb2 as pb
from penstock.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer
from penstock.inference.v1 import queue_pb2 as queue_pb

from services.embedding import convert
from services.embedding.callers import caller_of
from services.embedding.embedding import Embedder
from services.embedding.registry import Registry, ServedModel
from services.embedding.requests import Caller
from services.embedding.reranking import Reranker
from services.rpc.access import Role, principal, request_id, requires
from services.rpc.metering import work_of
from services.serving.queues import Counts, queue_status

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


class EmbeddingServicer(EmbeddingServiceServicer):
    """Serves the models of a registry."""

    def __init__(self, registry: Registry, embedder: Embedder, reranker: Reranker) -> None:
        self._registry = registry
        self._embedder = embedder
        self._reranker = reranker

    @requires(Role.USER)
    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Turns inputs into vectors."""
        asked = convert.to_embed_request(request)
        return convert.from_embed_answer(
            await self._embedder.embed(asked, await _caller(request, context))
        )

    @requires(Role.USER)
    async def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:
        """Orders documents."""
        asked = convert.to_rerank_request(request)
        return convert.from_rerank_answer(
            await self._reranker.rerank(asked, await _caller(request, context))
        )

    @requires(Role.USER)
    async def GetQueueStatus(
        self, request: pb.GetQueueStatusRequest, context: Context
    ) -> queue_pb.QueueStatus:
        """Tells what waits and what runs."""
        return queue_status(self._registry, "embed", counts)


async def _caller(request: Message, context: Context) -> Caller:
    remaining: float | None = context.time_remaining()
    return caller_of(principal(), request_id(), remaining, work=await work_of(request))


def counts(served: ServedModel) -> Counts:
    """Returns the counts of a model at this moment."""
    status = served.loaded.batcher.status()
    return Counts(
        *(status.running, status.waiting, status.completed_24h, status.request_id),
        figures=status.figures,
    )
