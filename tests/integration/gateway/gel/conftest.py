"""An edge whose retrieval service answers, and which has a service token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.gateway import embedding_peer, retrieval_peer
from tests.integration.gateway.answering_peer import AnsweringPeer
from tests.integration.gateway.conftest import Vectors
from tests.integration.gateway.embedding_peer import EmbeddingPeer
from tests.integration.gateway.gel.gel_edge import SERVICE, Keys
from tests.integration.gateway.shared_edge import PeerServer


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy.token_store._RECHECK_S", 0.0)  # keys come and go during tests


@pytest_asyncio.fixture(loop_scope="module")
async def vectors(vector_server: PeerServer, module_loop: None) -> Vectors:
    await vector_server.renew()
    vectors = Vectors(vector_server.address, EmbeddingPeer(), AnsweringPeer())
    embedding_peer.serve(vectors.embedding, vector_server)
    retrieval_peer.serve(vectors.retrieval, vector_server)
    return vectors


@pytest.fixture
def stop_vectors(vector_server: PeerServer) -> Callable[[], Awaitable[None]]:
    """Ends the services of vectors, and all calls to them."""
    return vector_server.stop


@pytest.fixture
def edge_changes() -> dict[str, object]:
    return {"service_token": SERVICE}


@pytest.fixture
def keys(edge_folder: Path) -> Keys:
    return Keys(edge_folder)
