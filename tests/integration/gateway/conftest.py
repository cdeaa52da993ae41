from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest
import uvicorn

from gateway.__main__ import listen
from gateway.app import build
from gateway.clients import Clients
from gateway.protocol import Protocol
from gateway.settings import ApiSettings, Settings
from tests.integration.gateway import embedding_peer, image_peer, retrieval_peer, training_peer
from tests.integration.gateway.edge_backend import Backend
from tests.integration.gateway.embedding_peer import EmbeddingPeer
from tests.integration.gateway.image_peer import ImagePeer
from tests.integration.gateway.retrieval_peer import RetrievalPeer
from tests.integration.gateway.training_peer import TrainingPeer

TOKEN = "sk-test"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def vectors() -> AsyncIterator[Vectors]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    embedding, retrieval, images = EmbeddingPeer(), RetrievalPeer(), ImagePeer()
    training = TrainingPeer()
    embedding_peer.serve(embedding, server)
    retrieval_peer.serve(retrieval, server)
    image_peer.serve(images, server)
    training_peer.serve(training, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Vectors(f"127.0.0.1:{port}", embedding, retrieval, images, training)
    await server.stop(None)


@pytest.fixture
def edge_changes() -> dict[str, object]:
    """Settings that a test wants otherwise; override it."""
    return {}


@asynccontextmanager
async def live_edge(settings: Settings) -> AsyncIterator[tuple[Clients, uvicorn.Server, str, int]]:
    """Serves an edge on a free port."""
    clients = Clients(settings)
    listener = listen("127.0.0.1", 0)
    host, port = listener.getsockname()
    config = uvicorn.Config(
        build(settings, clients),
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield clients, server, host, port
    server.should_exit = True
    await task


@pytest.fixture
async def edge(
    backend: Backend, vectors: Vectors, tmp_path: Path, edge_changes: dict[str, object]
) -> AsyncIterator[Edge]:
    settings = settings_for(backend, vectors, tmp_path, **edge_changes)
    async with live_edge(settings) as (clients, server, host, port):
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=headers, timeout=10
        ) as http:
            yield Edge(backend, vectors, clients, server, host, port, http)
