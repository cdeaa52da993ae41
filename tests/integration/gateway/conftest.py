from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from gateway.__main__ import listen
from gateway.app import build
from gateway.clients import Clients
from gateway.settings import ApiSettings, Settings
from tests.integration.gateway.edge_backend import Backend

TOKEN = "sk-test"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Edge:
    """A live edge on a real socket, before a live backend."""

    backend: Backend
    clients: Clients
    server: uvicorn.Server
    host: str
    port: int
    http: httpx.AsyncClient


def settings_for(backend: Backend, data_dir: Path, **changes: object) -> Settings:
    api = ApiSettings(**changes.pop("api", {}))  # type: ignore[arg-type]
    services = ("model", "inference", "image")
    addresses = dict.fromkeys(services, backend.address) | {"image": "127.0.0.1:1"}
    return Settings(api=api, api_tokens=(TOKEN,), data_dir=data_dir, addresses=addresses, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def edge_changes() -> dict[str, object]:
    """Settings that a test wants otherwise; override it."""
    return {}


@pytest.fixture
async def edge(
    backend: Backend, tmp_path: Path, edge_changes: dict[str, object]
) -> AsyncIterator[Edge]:
    settings = settings_for(backend, tmp_path, **edge_changes)
    clients = Clients(settings)
    listener = listen("127.0.0.1", 0)
    host, port = listener.getsockname()
    config = uvicorn.Config(
        build(settings, clients),
        http="httptools",
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
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        base_url=f"http://{host}:{port}", headers=headers, timeout=10
    ) as http:
        yield Edge(backend, clients, server, host, port, http)
    server.should_exit = True
    await task
