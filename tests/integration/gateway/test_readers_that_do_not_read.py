"""Clients that take nothing of a stream: all processes together hold little for them.

Edge and services run in this process, so its memory is that of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.retrieval.v1 import collection_pb2, document_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

from tests.integration.gateway.fault_platform import ENDLESS, FaultPlatform, fault_platform
from tests.integration.retrieval.service.rag_platform import upserts

LENGTH = 60_000
"""Of what is said. Each character is a token, and an event of some hundred bytes."""
MOST_TOKENS = 5_000
"""Of what may be under way to a client, from the engine on: queues, flow control, sockets."""
MOST_BYTES = 32 * 2**20
FILE_BYTES = 64 * 2**20
TEXT = "x" * LENGTH
MESSAGES = [{"role": "user", "content": TEXT}]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES}),
    "completion": ("/v1/completions", {"prompt": TEXT, "max_tokens": LENGTH}),
    "responses": ("/v1/responses", {"input": TEXT, "store": False}),
    "anthropic": ("/v1/messages", {"messages": MESSAGES, "max_tokens": LENGTH}),
    "ollama": ("/api/chat", {"messages": MESSAGES}),
    "velesio": ("/chat/completions", {"messages": MESSAGES, "max_tokens": LENGTH}),
    "llama": ("/completion", {"prompt": TEXT, "n_predict": LENGTH}),
    "botserver": ("/api/v1/ai/chat/completions", {"messages": MESSAGES}),
    "gel": ("/branch/default/ext/ai/rag", {"query": TEXT, "context": {"query": "Facts"}}),
}


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[FaultPlatform]:
    async with fault_platform(tmp_path) as platform:
        for server in platform.edge.servers:
            for listening in server.sockets:
                # Else the kernel holds megabytes, and it takes long till anybody has to wait.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        yield platform


def rss() -> int:
    gc.collect()
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


class Deaf:
    """A client that asks and never listens."""

    def __init__(self, platform: FaultPlatform, method: str, path: str, body: bytes = b"") -> None:
        host, _, port = platform.url.removeprefix("http://").rpartition(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        self._socket.setblocking(False)
        self._where = host, int(port)
        self._head = (
            f"{method} {path} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {platform.key.sign(roles=['user'])}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._where)
        await loop.sock_sendall(self._socket, self._head)

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()


def generated(platform: FaultPlatform) -> tuple[int, float]:
    """Sequences that the engine has, and tokens that it ever made."""
    status = platform.registry.resolve(ENDLESS).loaded.engine.status()
    assert status.figures is not None
    return status.running, status.figures.batch.total


async def stalled(platform: FaultPlatform, clients: int) -> float:
    """Waits until the engine makes nothing more though it has everybody to answer; tells how many
    tokens that took."""
    async with asyncio.timeout(60):
        while generated(platform)[0] < clients:  # noqa: ASYNC110 - an engine has no event for it
            await asyncio.sleep(0.01)
        last = -1.0
        while (now := generated(platform))[1] != last:
            last = now[1]
            await asyncio.sleep(0.5)
    assert now[0] == clients, "none is over"
    return last


async def facts(platform: FaultPlatform) -> None:
    """Something that Gel's clients can ask about."""
    metadata = (("authorization", f"Bearer {platform.key.sign(roles=['user'])}"),)
    async with grpc.aio.insecure_channel(platform.servers["retrieval"].address) as channel:
        stub = RetrievalServiceStub(channel)
        request = pb.CreateCollectionRequest(
            parent="tenants/default",
            collection=collection_pb2.Collection(embedding_model="equick"),
            collection_id="Facts",
        )
        made = await stub.CreateCollection(request, metadata=metadata)
        documents = [document_pb2.Document(name="one", text="The sky on Mars is red.")]
        call = stub.UpsertDocuments(upserts(made.name, documents), metadata=metadata)
        assert [event async for event in call][-1].finish.created_count == 1


async def test_streams_wait_for_their_readers(platform: FaultPlatform) -> None:
    await facts(platform)
    before = rss()
    async with contextlib.AsyncExitStack() as stack:
        for path, body in ASKED.values():
            data = json.dumps(body | {"model": ENDLESS, "stream": True}).encode()
            await stack.enter_async_context(Deaf(platform, "POST", path, data))
        made = await stalled(platform, len(ASKED))
        assert made <= MOST_TOKENS * len(ASKED)
        assert rss() - before <= MOST_BYTES
    async with asyncio.timeout(60):  # who left is forgotten
        while generated(platform)[0]:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)


async def test_downloads_wait_for_their_readers(platform: FaultPlatform) -> None:
    http = await platform.client("user")
    content = (b'{"custom_id":"' + b"x" * 1000 + b'"}\n') * (FILE_BYTES // 1017)
    # As results of batches are kept, which nobody else makes.
    files = {"file": ("a.jsonl", content)}
    answer = await http.post("/v1/files", data={"purpose": "user_data"}, files=files)
    assert answer.status_code == 200, answer.text
    del content
    before = rss()
    async with Deaf(platform, "GET", f"/v1/files/{answer.json()['id']}/content"):
        last, now = -1, 0
        async with asyncio.timeout(60):
            while now != last:
                last, now = now, rss()
                await asyncio.sleep(0.5)
        assert now - before <= MOST_BYTES
