from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import uvicorn
from pytest_asyncio import is_async_test

from gateway.clients import Clients
from gateway.settings import ApiSettings, Settings
from tests.integration.gateway import embedding_peer, image_peer, retrieval_peer, training_peer
from tests.integration.gateway.edge_backend import Backend
from tests.integration.gateway.embedding_peer import EmbeddingPeer
from tests.integration.gateway.image_peer import ImagePeer
from tests.integration.gateway.live_edge import live_edge
from tests.integration.gateway.retrieval_peer import RetrievalPeer
from tests.integration.gateway.shared_edge import PeerServer, SharedEdge
from tests.integration.gateway.training_peer import TrainingPeer

__all__ = ["TOKEN", "Edge", "Vectors", "live_edge"]

TOKEN = "sk-test"


@dataclass
class Vectors:
    """The services of vectors, images and files, on one address."""

    address: str
    embedding: EmbeddingPeer
    retrieval: RetrievalPeer
    images: ImagePeer = field(default_factory=ImagePeer)
    training: TrainingPeer = field(default_factory=TrainingPeer)


@dataclass
class Edge:
    """A live edge on a real socket, before a live backend."""

    backend: Backend
    vectors: Vectors
    clients: Clients
    server: uvicorn.Server
    host: str
    port: int
    http: httpx.AsyncClient


def settings_for(backend: Backend, vectors: Vectors, data_dir: Path, **changes: object) -> Settings:
    api = ApiSettings(**changes.pop("api", {}))  # type: ignore[arg-type]
    addresses = dict.fromkeys(("model", "inference"), backend.address)
    addresses |= dict.fromkeys(("embedding", "retrieval", "image", "training"), vectors.address)
    return Settings(api=api, api_tokens=(TOKEN,), data_dir=data_dir, addresses=addresses, **changes)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a module shares lives in the loop of the module, and its tests with it."""
    for item in items:  # all there are, of other folders too
        if is_async_test(item) and "module_loop" in item.fixturenames:
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="module")
def module_loop() -> None:
    """Who needs it, directly or not, runs in the loop of its module."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_backend() -> AsyncIterator[Backend]:
    backend = Backend()
    yield backend
    await backend.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vector_server() -> AsyncIterator[PeerServer]:
    server = PeerServer()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedEdge]:
    shared = SharedEdge(tmp_path_factory.mktemp("edge"))
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="module")
async def backend(module_backend: Backend, module_loop: None) -> Backend:
    """Knows nothing of earlier tests."""
    module_backend.renew()
    await module_backend.start()
    return module_backend


@pytest_asyncio.fixture(loop_scope="module")
async def vectors(vector_server: PeerServer, module_loop: None) -> Vectors:
    """Peers that know nothing of earlier tests."""
    await vector_server.renew()
    vectors = Vectors(vector_server.address, EmbeddingPeer(), RetrievalPeer())
    embedding_peer.serve(vectors.embedding, vector_server)
    retrieval_peer.serve(vectors.retrieval, vector_server)
    image_peer.serve(vectors.images, vector_server)
    training_peer.serve(vectors.training, vector_server)
    return vectors


@pytest.fixture
def edge_changes() -> dict[str, object]:
    """Settings that a test wants otherwise; override it."""
    return {}


@pytest.fixture
def edge_folder(shared_edge: SharedEdge) -> Path:
    """The edge's data directory, which is empty when a test begins."""
    return shared_edge.folder


@pytest_asyncio.fixture(loop_scope="module")
async def new_edge(shared_edge: SharedEdge) -> None:
    """For tests of what an edge does that was asked nothing yet."""
    await shared_edge.close()


@pytest_asyncio.fixture(loop_scope="module")
async def edge(
    backend: Backend,
    vectors: Vectors,
    shared_edge: SharedEdge,
    edge_folder: Path,
    edge_changes: dict[str, object],
) -> AsyncIterator[Edge]:
    settings = settings_for(backend, vectors, edge_folder, **edge_changes)
    async with shared_edge.used(settings) as (clients, server, host, port):
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=headers, timeout=10
        ) as http:
            yield Edge(backend, vectors, clients, server, host, port, http)
