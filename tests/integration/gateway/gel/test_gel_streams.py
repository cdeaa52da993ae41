"""Gel's streamed answers over real sockets: bytes, failures, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.gateway.conftest import TOKEN, Edge
from tests.integration.gateway.gel.gel_edge import RAG, peer_of, rag
from tests.integration.gateway.test_edge_streams import read_chunk, read_head

STREAM = b"""event: message_start
data: {"type": "message_start", "message": {"id": "chatcmpl-a", "role": "assistant", "model": "words", "usage": null}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The"}, "logprobs": null}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "stop"}, "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}

event: message_stop
data: {"type": "message_stop"}

"""  # noqa: E501 - it is what is sent


def raw_request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {RAG} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def events_of(text: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def test_every_byte_is_gels(edge: Edge) -> None:
    answer = await edge.http.post(RAG, json=rag(query="The", stream=True))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "close"
    assert "content-length" not in answer.headers
    assert answer.content == STREAM


async def test_an_event_is_an_http_chunk_and_the_last_one_closes(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(rag(query="The", stream=True)))
    assert b"200 OK" in await read_head(reader)
    chunks: list[bytes] = []
    while data := await read_chunk(reader):
        chunks.append(data)
    assert b"".join(chunks) == STREAM
    assert all(chunk.count(b"\n\n") == 1 and chunk.endswith(b"\n\n") for chunk in chunks)
    assert await asyncio.wait_for(reader.read(), 5) == b""  # closed by the edge
    writer.close()


async def test_tools_have_blocks_of_their_own(edge: Edge) -> None:
    answer = await edge.http.post(RAG, json=rag("tools", "well", stream=True))
    events = events_of(answer.text)
    assert [(e["type"], e.get("index")) for e in events] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    block = {"id": "call_1", "type": "tool_use", "name": "f", "args": ""}
    assert events[4]["content_block"] == block
    assert events[5]["delta"] == {"type": "tool_call_delta", "args": '{"a"'}
    assert events[-2]["delta"] == {"stop_reason": "tool_calls"}


async def test_texts_of_all_the_world(edge: Edge) -> None:
    text = 'ä "q"\u2028\u0085日本🙂\\'
    answer = await edge.http.post(RAG, json=rag(query=text, stream=True, logprobs=True))
    assert answer.content.isascii()
    deltas = [e for e in events_of(answer.text) if e["type"] == "content_block_delta"]
    assert "".join(e["delta"]["text"] for e in deltas) == " ".join(text.split())
    assert deltas[0]["logprobs"]["content"][0]["token"] == "ä"


@pytest.mark.parametrize(
    ("model", "kind"), [("breaks", "InternalError"), ("cut", "AIProviderError")]
)
async def test_a_failure_in_the_middle(edge: Edge, model: str, kind: str) -> None:
    answer = await edge.http.post(RAG, json=rag(model, "a b c", stream=True))
    assert answer.status_code == 200
    events = events_of(answer.text)
    assert events[-1]["type"] == "error"
    assert set(events[-1]["error"]) == {"message", "type"}
    assert events[-1]["error"]["type"] == kind
    assert events[-2]["type"] == "content_block_delta"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["waiting", "silent", "endless"])
async def test_a_client_that_leaves_ends_the_answer(edge: Edge, model: str, stream: bool) -> None:
    peer = peer_of(edge)
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(rag(model, stream=stream)))
    await edge.backend.until(lambda: peer.live)
    if model == "endless":
        await edge.backend.until(lambda: peer.sent > 3)
        if stream:
            await read_head(reader)
    writer.close()
    await edge.backend.until(lambda: not peer.live)


async def test_what_a_client_does_not_read_is_not_made(edge: Edge) -> None:
    peer = peer_of(edge)
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(rag("flood", stream=True)))
    await edge.backend.until(lambda: peer.sent > 3)
    last = -1
    async with asyncio.timeout(30):
        while peer.sent != last:  # until the service has to wait
            last = peer.sent
            await asyncio.sleep(0.5)
    await read_head(reader)
    for _ in range(last):
        await read_chunk(reader)
    await edge.backend.until(lambda: peer.sent > last)
    writer.close()
    await edge.backend.until(lambda: not peer.live)


class TestImpatience:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"slow_reader_s": 0.3}

    async def test_a_stalled_reader_is_given_up(self, edge: Edge) -> None:
        peer = peer_of(edge)
        _, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request(rag("flood", stream=True)))
        await edge.backend.until(lambda: peer.live)
        await edge.backend.until(lambda: not peer.live, 20.0)
        writer.close()


class TestPings:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.05}

    async def test_silence_after_the_beginning_is_pinged(self, edge: Edge) -> None:
        # The peer says the words, and then nothing but what the edge says.
        reader, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request(rag("pauses", stream=True)))
        await read_head(reader)
        assert (await read_chunk(reader)).startswith(b"event: message_start")
        await read_chunk(reader)
        assert [await read_chunk(reader) for _ in range(2)] == [b": ping\n\n"] * 2
        writer.close()


class TestDeadline:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"request_timeout_s": 0.3}

    @pytest.mark.parametrize("stream", [True, False])
    async def test_an_answer_times_out(self, edge: Edge, stream: bool) -> None:
        answer = await edge.http.post(RAG, json=rag("silent", stream=stream))
        assert answer.status_code == 504
        assert answer.json()["type"] == "AIProviderError"
        await edge.backend.until(lambda: not peer_of(edge).live)


async def test_a_stop_of_the_edge_is_told(edge: Edge) -> None:
    async with edge.http.stream("POST", RAG, json=rag("endless", stream=True)) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        edge.server.should_exit = True
        rest = [line async for line in lines if line]
    assert rest[-2] == "event: error"
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["type"] == "AIProviderError"


Stop = Callable[[], Awaitable[None]]


async def test_the_service_dies_during_an_answer(edge: Edge, stop_vectors: Stop) -> None:
    async with edge.http.stream("POST", RAG, json=rag("endless", stream=True)) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        waiting = asyncio.create_task(edge.http.post(RAG, json=rag("silent")))
        await edge.backend.until(lambda: peer_of(edge).live == 2)
        await stop_vectors()
        rest = [line async for line in lines if line]
    assert rest[-2] == "event: error"
    whole = await waiting
    assert whole.status_code == 503
    assert whole.json()["type"] == "AIProviderError"
    assert "retry-after" in whole.headers
