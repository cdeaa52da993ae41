import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest

from benchmarks.edge.connections import RefusedError, StreamClient, Tally, UnaryClient, connect
from benchmarks.edge.pacing import Ledger, Pace, Pacer, Task
from benchmarks.edge.requests import NATIVE, OPENAI, stream_request

EVENT = b'data: {"id":1}\n\n'


@contextlib.asynccontextmanager
async def served(*pieces: bytes) -> AsyncIterator[str]:
    """An address that answers everything with the same pieces, and keeps the connection open."""
    handlers: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        await asyncio.wait(handlers, timeout=2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0.01)


async def test_a_stream_client_counts_events():
    tally = Tally()
    client = StreamClient(stream_request(OPENAI, Pace.PACED), tally)
    async with served(b"HTTP/1.1 200 OK\r\n\r\n", EVENT, EVENT * 2) as address:
        await connect(address, client)
        assert 0 < await asyncio.wait_for(client.first, 30) < 30
        await until(lambda: tally.events == 3)
        client.leave()
    assert (tally.events, tally.lost) == (3, 0)


async def test_a_refusal_is_an_error():
    client = StreamClient(stream_request(OPENAI, Pace.PACED), Tally())
    async with served(b"HTTP/1.1 401 Unauthorized\r\n\r\n") as address:
        await connect(address, client)
        with pytest.raises(RefusedError, match="401"):
            await asyncio.wait_for(client.first, 30)
        client.leave()


async def test_a_unary_client_asks_again_when_it_is_answered():
    client = UnaryClient(b"POST / HTTP/1.1\r\n\r\n")
    async with served(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"full") as address:
        await connect(address, client)
        await until(lambda: client.answers >= 2)
        client.leave()


@pytest.mark.parametrize("form", [OPENAI, NATIVE])
def test_requests_are_whole(form: str):
    head, _, body = stream_request(form, Pace.SILENT, "tag-1").partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    message = json.loads(body)["messages"][-1]
    assert "silent tag-1" in json.dumps(message)


async def test_all_wait_for_the_same_step():
    pacer = Pacer()
    ticks: list[int] = []
    pacer.listen(lambda: ticks.append(1))
    running = asyncio.create_task(pacer.run())
    await asyncio.gather(*(pacer.step() for _ in range(5)))
    running.cancel()
    assert len(ticks) == 1


def test_the_ledger_remembers_cancellations_with_a_tag():
    ledger = Ledger()
    for tag, cancelled in (("a", True), ("", True), ("b", False)):
        ledger.begin()
        ledger.end(Task(Pace.PACED, tag, 1), cancelled=cancelled)
    assert (ledger.running, list(ledger.cancels)) == (0, ["a"])
