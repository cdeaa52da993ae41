"""What the edge listens on."""

from __future__ import annotations

import asyncio
import socket

from gateway.__main__ import listen


async def test_nagles_algorithm_is_off_where_asyncio_takes_connections() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            taken = transport.get_extra_info("socket")
            told.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    server = await loop.create_server(Taken, sock=listen("127.0.0.1", 0))
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await told
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
