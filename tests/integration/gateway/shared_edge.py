"""What the tests of a module share: an edge, and a server for the peers that it talks to.

To start them takes ten times the processor that a request takes. The peers are others for each
test; the edge remembers nothing of a test but the files in its folder, which go.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from gateway.clients import Clients
from gateway.settings import Settings
from tests.integration.gateway.live_edge import live_edge

_QUIET_S = 2.0


class PeerServer(grpc.GenericRpcHandler):
    """A server whose services can be exchanged between two calls.

    Calls that came before go on with the services that they came to. To those who add services it
    looks like a server of gRPC.
    """

    def __init__(self) -> None:
        self.address = ""
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._server: grpc.aio.Server | None = None

    def service(self, handler_call_details: Any) -> Any:
        found = (handler.service(handler_call_details) for handler in self._handlers)
        return next((handler for handler in found if handler is not None), None)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers += handlers

    def add_registered_method_handlers(self, *_: Any) -> None:
        """Those are for servers without an event loop."""

    async def renew(self) -> None:
        """Takes the services away, and listens unless it does so already."""
        self._handlers.clear()
        if self._server is None:
            self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            self._server.add_generic_rpc_handlers((self,))
            self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
            await self._server.start()

    async def stop(self) -> None:
        """Ends all calls."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


class SharedEdge:
    """An edge that lives as long as the settings that tests want are the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings: Settings | None = None
        self._stack = AsyncExitStack()
        self.live: tuple[Clients, uvicorn.Server, str, int] | None = None

    @asynccontextmanager
    async def used(
        self, settings: Settings
    ) -> AsyncIterator[tuple[Clients, uvicorn.Server, str, int]]:
        """Serves a test. It is another edge where an earlier test ended it, or left it busy."""
        if self.live is None or settings != self._settings:
            await self.close()
            self.live = await self._stack.enter_async_context(live_edge(settings))
            self._settings = settings
        try:
            yield self.live
        finally:
            if not await self._quiet(self.live[1]):
                await self.close()
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    async def close(self) -> None:
        self.live = None
        await self._stack.aclose()

    @staticmethod
    async def _quiet(server: uvicorn.Server) -> bool:
        """Tells whether it goes on and nobody is being answered, soon."""
        state = server.server_state
        try:
            async with asyncio.timeout(_QUIET_S):
                while state.tasks or state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.002)
        except TimeoutError:
            return False
        return not server.should_exit
