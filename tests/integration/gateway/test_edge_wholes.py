"""Whole answers: over the step stream, or by their own RPC when the request is large."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_streams import raw_request

ROOT = Path(__file__).parents[3]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
LARGE = "x" * 300_000


def body(model: str, text: str = "once upon a time", path: str = CHAT) -> dict[str, Any]:
    if path == CHAT:
        return {"model": model, "messages": [{"role": "user", "content": text}]}
    return {"model": model, "prompt": text}


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("text", ["once upon a time", "", "ü" * 1000, LARGE])
async def test_pieces_make_the_same_answer(edge: Edge, path: str, text: str) -> None:
    answers = [
        (await edge.http.post(path, json=body(model, text, path))).json() | {"model": ""}
        for model in ("words", "pieces")
    ]
    assert answers[0] == answers[1]
    assert ("".join(f"{word} " for word in text.split()) or '""') in json.dumps(
        answers[0], ensure_ascii=False
    )
    assert edge.clients.steps.live_count == 0


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_small_requests_ride_the_step_stream(edge: Edge, path: str) -> None:
    waiting = asyncio.create_task(edge.http.post(path, json=body("waiting", path=path)))
    await edge.backend.until(lambda: edge.backend.live)
    assert not edge.backend.unary_live
    waiting.cancel()
    await edge.backend.until(lambda: not edge.backend.live)


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_large_requests_take_their_own_rpc(edge: Edge, path: str) -> None:
    waiting = asyncio.create_task(edge.http.post(path, json=body("waiting", LARGE, path)))
    await edge.backend.until(lambda: edge.backend.unary_live)
    assert not edge.backend.live
    waiting.cancel()
    await edge.backend.until(lambda: not edge.backend.unary_live)


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("text", ["small", LARGE], ids=["step-stream", "rpc"])
async def test_disconnect_cancels(edge: Edge, path: str, text: str) -> None:
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(body("waiting", text, path), path))
    await edge.backend.until(lambda: edge.backend.live or edge.backend.unary_live)
    writer.close()
    await edge.backend.until(lambda: not edge.backend.live and not edge.backend.unary_live)
    assert edge.clients.steps.live_count == 0


async def test_disconnect_cancels_an_answer_in_pieces(edge: Edge) -> None:
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(body("endless-pieces")))
    await edge.backend.until(lambda: edge.backend.live)
    stream = next(iter(edge.backend.live.values()))
    await edge.backend.until(lambda: stream.sent > 5)
    writer.close()
    await edge.backend.until(lambda: not edge.backend.live)
    assert (await edge.http.post(CHAT, json=body("words"))).status_code == 200


async def test_an_answer_over_the_limit_fails_alone(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.wholes._MOST_BYTES", 1000)
    waiting = asyncio.create_task(edge.http.post(CHAT, json=body("waiting")))
    answer = await edge.http.post(CHAT, json=body("endless-pieces"))
    assert answer.status_code == 413
    assert "too large" in answer.json()["error"]["message"]
    await edge.backend.until(lambda: len(edge.backend.live) == 1)
    assert (await edge.http.post(CHAT, json=body("words"))).status_code == 200
    assert not waiting.done()
    waiting.cancel()


class TestDeadline:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"request_timeout_s": 0.2}

    @pytest.mark.parametrize("text", ["small", LARGE], ids=["step-stream", "rpc"])
    async def test_it_ends_a_request(self, edge: Edge, text: str) -> None:
        answer = await edge.http.post(CHAT, json=body("waiting", text))
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "timeout"
        await edge.backend.until(lambda: not edge.backend.live and not edge.backend.unary_live)


async def test_backend_dies_and_comes_back(edge: Edge) -> None:
    port = int(edge.backend.address.rpartition(":")[2])
    waiting = asyncio.create_task(edge.http.post(CHAT, json=body("waiting")))
    await edge.backend.until(lambda: edge.backend.live)
    await edge.backend.stop()
    before = await waiting
    assert before.status_code == 503
    assert before.json()["error"]["code"] == "service_unavailable"
    assert "retry-after" in before.headers
    assert (await edge.http.post(CHAT, json=body("words"))).status_code == 503
    await edge.backend.start(port)
    async with asyncio.timeout(30):
        while (await edge.http.post(CHAT, json=body("words"))).status_code != 200:  # noqa: ASYNC110 - that is what clients do
            await asyncio.sleep(0.1)


class Remote:
    """The peer in a process of its own, which can be killed."""

    def __init__(self) -> None:
        self.address = "127.0.0.1:0"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        module = "tests.integration.gateway.edge_backend"
        port = self.address.rpartition(":")[2]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, port, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        self.address = line.decode().strip()

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


class TestKilled:
    @pytest_asyncio.fixture(loop_scope="module")
    async def backend(self) -> AsyncIterator[Remote]:
        remote = Remote()
        await remote.start()
        yield remote
        await remote.kill()

    async def test_it_is_said_and_healed(self, edge: Edge, backend: Remote) -> None:
        assert (await edge.http.post(CHAT, json=body("words"))).status_code == 200
        waiting = asyncio.create_task(edge.http.post(CHAT, json=body("waiting")))
        async with asyncio.timeout(30):
            while not edge.clients.steps.live_count:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        await backend.kill()
        answer = await waiting
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "service_unavailable"
        assert edge.clients.steps.live_count == 0
        await backend.start()
        async with asyncio.timeout(10):
            while (await edge.http.post(CHAT, json=body("words"))).status_code != 200:  # noqa: ASYNC110 - that is what clients do
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("text", ["small", LARGE], ids=["step-stream", "rpc"])
async def test_shutdown_tells_waiting_clients(edge: Edge, text: str) -> None:
    asked = asyncio.create_task(edge.http.post(CHAT, json=body("waiting", text)))
    await edge.backend.until(lambda: edge.backend.live or edge.backend.unary_live)
    edge.server.should_exit = True
    answer = await asked
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "service_unavailable"
    await edge.backend.until(lambda: not edge.backend.live and not edge.backend.unary_live)


async def test_many_at_once_get_their_own(edge: Edge) -> None:
    texts = [f"request {n} says this" for n in range(40)]
    streamed = asyncio.create_task(
        edge.http.post(CHAT, json=body("words", "a stream between") | {"stream": True})
    )
    answers = await asyncio.gather(
        *(edge.http.post(CHAT, json=body("words", text)) for text in texts)
    )
    for text, answer in zip(texts, answers, strict=True):
        assert answer.json()["choices"][0]["message"]["content"] == text + " "
    assert (await streamed).text.endswith("data: [DONE]\n\n")
