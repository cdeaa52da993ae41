"""Streams, disconnects, slow readers and broken backends, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.integration.gateway.conftest import Edge

CHAT = "/v1/chat/completions"


def chat(model: str, text: str = "once upon a time") -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True}


def raw_request(body: dict[str, object], path: str = CHAT) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer sk-test\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await asyncio.wait_for(reader.readline(), 30), 16)
    data = await reader.readexactly(size)
    await reader.readexactly(2)
    return data


async def test_stream_and_its_headers(edge: Edge) -> None:
    answer = await edge.http.post(CHAT, json=chat("words"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    assert "x-request-id" in answer.headers
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(e.removeprefix("data: "))["choices"][0]["delta"] for e in events[:-2]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[-1] == {}
    assert "".join(d["content"] for d in deltas[1:-1]) == "once upon a time "


async def test_one_event_is_one_http_chunk(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(chat("words")))
    assert b"200 OK" in await read_head(reader)
    chunks: list[bytes] = []
    while data := await read_chunk(reader):
        chunks.append(data)
    assert len(chunks) == 7  # role, four words, finish, [DONE]
    assert all(c.startswith(b"data: ") and c.endswith(b"\n\n") for c in chunks)
    assert all(c.count(b"\n\n") == 1 for c in chunks)
    writer.close()


async def test_completion_stream(edge: Edge) -> None:
    body = {"model": "words", "prompt": "a b", "stream": True}
    answer = await edge.http.post("/v1/completions", json=body)
    events = [json.loads(e[6:]) for e in answer.text.split("\n\n")[:-2]]
    assert [e["choices"][0]["text"] for e in events] == ["a ", "b ", ""]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_failure_in_the_middle(edge: Edge) -> None:
    answer = await edge.http.post(CHAT, json=chat("breaks"))
    assert answer.status_code == 200
    events = answer.text.split("\n\n")
    assert json.loads(events[-2].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("model", ["endless", "silent", "waiting"])
async def test_disconnect_cancels_a_stream(edge: Edge, model: str) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(chat(model)))
    await edge.backend.until(lambda: edge.backend.live)
    if model != "waiting":
        await read_head(reader)
    writer.close()
    start = time.perf_counter()
    await edge.backend.until(lambda: not edge.backend.live)
    assert time.perf_counter() - start < 10
    assert edge.clients.steps.live_count == 0


async def test_a_slow_reader_holds_little(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(chat("flood")))
    await edge.backend.until(lambda: edge.backend.live)
    stream = next(iter(edge.backend.live.values()))
    last = -1
    async with asyncio.timeout(20):
        while stream.sent != last:  # until no more is granted
            last = stream.sent
            await asyncio.sleep(0.3)
    assert stream.credit <= 0
    # Reading again gets it going again, and nothing was lost in between.
    await read_head(reader)
    numbers: list[int] = []
    await read_chunk(reader)
    while len(numbers) <= last:
        event = json.loads((await read_chunk(reader)).removeprefix(b"data: "))
        numbers.append(int(event["choices"][0]["delta"]["content"].split()[1]))
    assert numbers == list(range(1, len(numbers) + 1))
    await edge.backend.until(lambda: stream.sent > last)
    writer.close()
    await edge.backend.until(lambda: not edge.backend.live)


class TestImpatience:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"slow_reader_s": 0.3}

    async def test_a_stalled_reader_is_given_up(self, edge: Edge) -> None:
        _, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request(chat("flood")))
        await edge.backend.until(lambda: edge.backend.live)
        await edge.backend.until(lambda: not edge.backend.live, 20.0)
        writer.close()


class TestPings:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.05}

    async def test_silence_is_pinged(self, edge: Edge) -> None:
        reader, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request(chat("silent")))
        await read_head(reader)
        assert (await read_chunk(reader)).startswith(b"data: ")
        assert [await read_chunk(reader) for _ in range(2)] == [b": ping\n\n"] * 2
        writer.close()


class TestDeadline:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"request_timeout_s": 0.2}

    async def test_a_stream_times_out(self, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.steps._DEADLINE_SLACK_S", 0.1)
        answer = await edge.http.post(CHAT, json=chat("waiting"))
        assert answer.status_code == 504
        await edge.backend.until(lambda: not edge.backend.live)


async def test_backend_dies_and_comes_back(edge: Edge) -> None:
    port = int(edge.backend.address.rpartition(":")[2])
    async with edge.http.stream("POST", CHAT, json=chat("endless")) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        waiting = asyncio.create_task(edge.http.post(CHAT, json=chat("waiting")))
        await edge.backend.until(lambda: len(edge.backend.live) == 2)
        await edge.backend.stop()
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "service_unavailable"
    before = await waiting
    assert before.status_code == 503
    assert "retry-after" in before.headers
    assert (await edge.http.post(CHAT, json=chat("words"))).status_code == 503
    await edge.backend.start(port)
    async with asyncio.timeout(30):
        while (await edge.http.post(CHAT, json=chat("words"))).status_code != 200:  # noqa: ASYNC110 - that is what clients do
            await asyncio.sleep(0.1)


async def test_shutdown_tells_streams(edge: Edge) -> None:
    async with edge.http.stream("POST", CHAT, json=chat("endless")) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        edge.server.should_exit = True
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "service_unavailable"


async def test_many_streams_at_once(edge: Edge) -> None:
    texts = [f"stream {n} says this" for n in range(40)]
    answers = await asyncio.gather(
        *(edge.http.post(CHAT, json=chat("words", text)) for text in texts)
    )
    for text, answer in zip(texts, answers, strict=True):
        events = answer.text.split("\n\n")[1:-3]
        said = "".join(json.loads(e[6:])["choices"][0]["delta"]["content"] for e in events)
        assert said == text + " "


async def test_a_request_too_large_for_a_message_fails_alone(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge.http.stream("POST", CHAT, json=chat("endless")) as running:
        lines = running.aiter_lines()
        await anext(lines)
        monkeypatch.setattr("gateway.steps._MOST_BYTES", 1000)
        answer = await edge.http.post(CHAT, json=chat("words", "x" * 1000))
        assert answer.status_code == 413
        assert (await edge.http.post(CHAT, json=chat("words"))).status_code == 200
        await anext(lines)


async def test_streams_are_counted(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.steps._MOST_STREAMS", 1)
    async with edge.http.stream("POST", CHAT, json=chat("endless")):
        answer = await edge.http.post(CHAT, json=chat("words"))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "queue_full"


async def test_two_requests_on_one_connection(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    for _ in range(2):
        writer.write(raw_request(chat("words")))
        assert b"200 OK" in await read_head(reader)
        last = b""
        while data := await read_chunk(reader):
            last = data
        assert last == b"data: [DONE]\n\n"
    writer.close()
