"""A running EmbeddingService, and how tests look at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as pb

from services.embedding.batching import Limits
from services.embedding.engine import EncoderLoader
from services.embedding.loading import loading
from services.embedding.registry import Registry, ServedModel
from services.rpc.server import Server
from services.serving.catalogue import LoadKey, WantedModel
from services.serving.models import ModelKind

USER = (("authorization", "Bearer user-token"),)
OTHER = (("authorization", "Bearer other-token"),)


@dataclass
class Platform:
    """A running service and what tests look at."""

    embedding: Any
    registry: Registry
    server: Server
    channel: grpc.aio.Channel


async def served(
    id: str,
    loader: EncoderLoader,
    kind: ModelKind = ModelKind.EMBEDDING,
    limits: Limits | None = None,
    source: Path = Path(),
) -> ServedModel:
    """Loads a model as the service does."""
    key = LoadKey("uid", f"models/{id}/revisions/1", str(source))
    return await loading(limits or Limits())(
        loader, WantedModel(id, kind, key), source, lambda _: None
    )


def request(*inputs: str | list[int], model: str = "echo", **more: Any) -> pb.EmbedRequest:
    """A request for vectors."""
    return pb.EmbedRequest(
        model=model,
        inputs=[
            embedding_pb2.EmbeddingInput(text=given)
            if isinstance(given, str)
            else embedding_pb2.EmbeddingInput(token_ids=embedding_pb2.TokenIds(ids=given))
            for given in inputs
        ],
        **more,
    )
