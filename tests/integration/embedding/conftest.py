"""A real EmbeddingService on echo engines, over a socket."""

import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from penstock.embedding.v1.embedding_service_pb2_grpc import (
    EmbeddingServiceStub,
    add_EmbeddingServiceServicer_to_server,
)

from policy.token_store import TokenSources
from services.embedding.batching import Limits
from services.embedding.embedding import Embedder
from services.embedding.engines.echo_engine import EchoLoader, EchoSettings
from services.embedding.preparing import Preparer, Threads
from services.embedding.registry import Registry
from services.embedding.reranking import Reranker
from services.embedding.servicer import EmbeddingServicer
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind
from tests.integration.embedding.embedding_platform import Platform, served


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    """Serves `echo`, `slow` (50 ms a batch, few calls) and the cross-encoder `cross`; knows others
    that it does not serve."""
    registry = Registry()
    slow = EchoSettings(batch_interval_s=0.05, batch_tokens=512)
    models = [
        await served("echo", EchoLoader()),
        await served("slow", EchoLoader(slow), limits=Limits(calls=3)),
        await served("cross", EchoLoader(), ModelKind.RERANK),
    ]
    for model in models:
        registry.put(model)
    registry.know(
        [
            Known("echo", ModelKind.EMBEDDING, ("org/alias",)),
            Known("slow", ModelKind.EMBEDDING),
            Known("cross", ModelKind.RERANK),
            Known("loading", ModelKind.EMBEDDING),
            Known("broken", ModelKind.RERANK, failed=True),
            Known("talker", ModelKind.CHAT),
        ]
    )
    with contextlib.closing(Threads()) as threads:
        preparer = Preparer(threads, most_tokens=30_000)
        servicer = EmbeddingServicer(
            registry, Embedder(registry, preparer), Reranker(registry, preparer)
        )
        server = Server(
            ServerSettings(),
            [Registration(add_EmbeddingServiceServicer_to_server, servicer)],
            authenticator=CallAuthenticator(TokenSources(api_tokens=("user-token", "other-token"))),
        )
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Platform(EmbeddingServiceStub(channel), registry, server, channel)
        await server.stop(0)
        for model in models:
            await model.loaded.close()
