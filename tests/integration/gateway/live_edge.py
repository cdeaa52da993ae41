"""An edge on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from gateway.__main__ import listen
from gateway.app import build
from gateway.clients import Clients
from gateway.protocol import Protocol
from gateway.settings import Settings


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
        await asyncio.sleep(0.002)
    yield clients, server, host, port
    server.should_exit = True
    await task
