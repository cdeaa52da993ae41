"""What `peers` promises, done by ModelService, EmbeddingService and InferenceService.

Calls go out under the caller's own credential and deadline; request ID and trace travel with them
by themselves. Give these clients channels without a token: a caller without a credential must not
borrow this service's.
"""

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TypeVar

import grpc
import numpy as np
from penstock.embedding.v1 import embedding_pb2 as embedding_pb
from penstock.embedding.v1 import embedding_service_pb2 as embedding_service_pb
from penstock.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from penstock.inference.v1 import event_pb2 as event_pb
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import priority_pb2 as priority_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_pb2 as model_pb
from penstock.model.v1 import model_service_pb2 as model_service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.errors import Internal, ModelNotFound, Unavailable
from services.retrieval.peers import (
    Caller,
    Embedded,
    EmbeddingModel,
    Priority,
    Ranked,
    RerankMethod,
    Task,
)
from services.rpc.errors import from_peer_error

IDEMPOTENT = (
    "penstock.embedding.v1.EmbeddingService",
    "penstock.model.v1.ModelService/GetModel",
    "penstock.model.v1.ModelService/ListModels",
)
"""Methods that may be repeated; for `services.rpc.channels.channel`."""
_EMBED_TIMEOUT_S = 300.0
"""Longest wait for vectors, for callers without a deadline."""
_LOOKUP_TIMEOUT_S = 30.0

_T = TypeVar("_T")


class CatalogueClient:
    """`Models` over ModelService."""

    def __init__(self, channel: grpc.aio.Channel, default_model: str = "") -> None:
        self._stub = ModelServiceStub(channel)
        self._default = default_model

    async def embedding_model(self, name: str, caller: Caller) -> EmbeddingModel:
        """Finds an embedding model."""
        name = name or self._default
        model = await (self._named(name, caller) if name else self._first(caller))
        if model.kind != model_pb.MODEL_KIND_EMBEDDING:
            raise ModelNotFound(f"{name[:300]!r} is no embedding model.", field="embedding_model")
        length = model.capabilities.context_length
        return EmbeddingModel(model.name.removeprefix("models/"), length or None)

    async def _named(self, name: str, caller: Caller) -> model_pb.Model:
        request = model_service_pb.GetModelRequest(name=f"models/{name}")
        return await _answered(
            "ModelService",
            self._stub.GetModel(
                request,
                metadata=caller.credential,
                timeout=caller.remaining_s(_LOOKUP_TIMEOUT_S),
            ),
        )

    async def _first(self, caller: Caller) -> model_pb.Model:
        request = model_service_pb.ListModelsRequest(
            kinds=[model_pb.MODEL_KIND_EMBEDDING], page_size=1000
        )
        page = await _answered(
            "ModelService",
            self._stub.ListModels(
                request,
                metadata=caller.credential,
                timeout=caller.remaining_s(_LOOKUP_TIMEOUT_S),
            ),
        )
        wanted = [m for m in page.models if m.state != model_pb.Model.STATE_STOPPED]
        # Sorting is stable: of those that serve the first by ID.
        wanted.sort(key=lambda model: model.state != model_pb.Model.STATE_READY)
        if not wanted:
            raise ModelNotFound(
                "There is no embedding model. Deploy one, then create the collection.",
                field="embedding_model",
            )
        return wanted[0]


class EmbeddingClient:
    """`Embedder` over EmbeddingService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = EmbeddingServiceStub(channel)

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        task: Task,
        caller: Caller,
        dimensions: int | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Embedded:
        """Embeds texts."""
        request = embedding_service_pb.EmbedRequest(
            model=model,
            inputs=[embedding_pb.EmbeddingInput(text=text) for text in texts],
            dimensions=dimensions,
            truncation=embedding_pb.TRUNCATION_REFUSE,
            task=embedding_pb.EmbeddingTask.ValueType(task.value),
            priority=priority_pb.Priority.ValueType(priority.value),
        )
        response = await _answered(
            "EmbeddingService",
            self._stub.Embed(
                request,
                metadata=caller.credential,
                timeout=caller.remaining_s(_EMBED_TIMEOUT_S),
            ),
        )
        found = response.embeddings
        if len(found) != len(texts) or any(e.index != i for i, e in enumerate(found)):
            raise Internal("EmbeddingService answered other inputs than it was asked for.")
        values = np.frombuffer(b"".join(embedding.values for embedding in found), dtype="<f4")
        return Embedded(
            model=response.model,
            vectors=values.reshape(len(texts), -1).astype(np.float32, copy=False),
            token_counts=[embedding.token_count for embedding in found],
        )

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        caller: Caller,
        priority: Priority = Priority.NORMAL,
    ) -> Ranked:
        """Scores documents."""
        request = embedding_service_pb.RerankRequest(
            model=model,
            query=query,
            documents=documents,
            truncation=embedding_pb.TRUNCATION_KEEP_START,
            priority=priority_pb.Priority.ValueType(priority.value),
        )
        response = await _answered(
            "EmbeddingService",
            self._stub.Rerank(
                request,
                metadata=caller.credential,
                timeout=caller.remaining_s(_EMBED_TIMEOUT_S),
            ),
        )
        scores = {result.index: float(result.relevance_score) for result in response.results}
        if scores.keys() != set(range(len(documents))):
            raise Internal("EmbeddingService ranked other documents than it was asked for.")
        return Ranked(
            scores=[scores[index] for index in range(len(documents))],
            method=RerankMethod(response.method),
            token_count=response.usage.total_tokens,
        )


class InferenceClient:
    """Chats with the models of InferenceService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InferenceServiceStub(channel)

    async def chat(
        self, request: inference_pb.ChatRequest, caller: Caller
    ) -> AsyncGenerator[event_pb.ChatEvent, None]:
        """Streams a chat. Closing the stream cancels it there.

        Raises:
            Unavailable: the service can't be reached, or its stream ended too early.
        """
        timeout = None if caller.deadline is None else caller.remaining_s(float("inf"))
        call = self._stub.StreamChat(request, metadata=caller.credential, timeout=timeout)
        done = False
        try:
            async for event in call:
                done = event.HasField("done")
                yield event
        except grpc.aio.AioRpcError as error:
            raise from_peer_error("InferenceService", error) from None
        finally:
            call.cancel()
        if not done:
            raise Unavailable("InferenceService ended the answer too early. Try again.")


async def _answered(service: str, call: Awaitable[_T]) -> _T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_peer_error(service, error) from None
