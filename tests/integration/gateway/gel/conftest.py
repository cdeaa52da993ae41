"""An edge whose retrieval service answers, and which has a service token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.integration.gateway import embedding_peer, retrieval_peer
from tests.integration.gateway.answering_peer import AnsweringPeer
from tests.integration.gateway.conftest import Vectors
from tests.integration.gateway.embedding_peer import EmbeddingPeer
from tests.integration.gateway.gel.gel_edge import SERVICE, Keys


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy.token_store._RECHECK_S", 0.0)  # keys come and go during tests


@pytest.fixture
async def vectors(vector_server: grpc.aio.Server) -> AsyncIterator[Vectors]:
    server = vector_server
    embedding, retrieval = EmbeddingPeer(), AnsweringPeer()
    embedding_peer.serve(embedding, server)
    retrieval_peer.serve(retrieval, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Vectors(f"127.0.0.1:{port}", embedding, retrieval)
    await server.stop(None)


@pytest.fixture
async def vector_server() -> grpc.aio.Server:
    return grpc.aio.server(options=[("grpc.so_reuseport", 0)])


@pytest.fixture
def stop_vectors(vector_server: grpc.aio.Server) -> Callable[[], Awaitable[None]]:
    """Ends the services of vectors, and all calls to them."""

    async def stop() -> None:
        await vector_server.stop(None)

    return stop


@pytest.fixture
def edge_changes() -> dict[str, object]:
    return {"service_token": SERVICE}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)
