"""Edges before a real training service and scripted models, for batches."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from penstock.access.v1 import key_service_pb2, key_service_pb2_grpc
from penstock.inference.internal.v1 import step_service_pb2 as step_pb2
from sqlalchemy import update

from gateway.settings import ApiSettings, Settings
from gateway.settings_auth import AuthSettings, jwt_of
from policy.oidc import JwtRules
from services.rpc.authentication import Identities
from services.training.clock import utc_now
from services.training.stores.tables import BATCHES
from tests.integration.gateway.conftest import live_edge
from tests.integration.gateway.edge_backend import Backend, Stream
from tests.integration.training import file_platform

CHAT = "/v1/chat/completions"
TOKENS = ("my-token", "your-token")


class SlowBackend(Backend):
    """`busy-2` turns each request away twice before it answers, `gated` waits for the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        """How often each text was asked for."""
        self.gate = asyncio.Event()

    async def _run_whole(
        self, stream_id: int, kind: str, stream: Stream, outbox: asyncio.Queue[Any]
    ) -> None:
        request = stream.request
        text = "".join(self.words(request)).strip()
        self.asked[text] += 1
        if request.model == "gated":
            await self.gate.wait()
        kind_of, _, times = request.model.partition("-")
        if kind_of == "busy" and self.asked[text] <= int(times):
            outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, error=_queue_full()))
            self.live.pop(stream_id, None)
            return
        await super()._run_whole(stream_id, kind, stream, outbox)


class KeyFeed(key_service_pb2_grpc.KeyServiceServicer):
    """ModelService, as far as it tells of keys: that there are none, once it may."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.told.set()
        self.address = ""

    async def WatchKeys(  # noqa: N802 - bears the name of its RPC
        self, request: Any, context: Any
    ) -> AsyncIterator[key_service_pb2.WatchKeysEvent]:
        await self.told.wait()
        yield key_service_pb2.WatchKeysEvent(snapshot={})
        while True:
            await asyncio.sleep(1)
            yield key_service_pb2.WatchKeysEvent(heartbeat={})


@asynccontextmanager
async def key_feed() -> AsyncIterator[KeyFeed]:
    feed = KeyFeed()
    server = grpc.aio.server()
    key_service_pb2_grpc.add_KeyServiceServicer_to_server(feed, server)
    feed.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield feed
    await server.stop(None)


def _queue_full() -> status_pb2.Status:
    status = status_pb2.Status(code=8, message="Too many wait.")
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="penstock"))
    status.details.append(packed)
    return status


@dataclass
class BatchStack:
    """The whole, as a caller uses it."""

    folder: Path
    backend: SlowBackend
    keys: KeyFeed
    service: file_platform.Platform
    exits: AsyncExitStack
    embedding: str = ""
    auth: AuthSettings = field(default_factory=AuthSettings)
    clients: list[httpx.AsyncClient] = field(default_factory=list[httpx.AsyncClient])

    @property
    def http(self) -> httpx.AsyncClient:
        return self.clients[0]

    def settings(self, **api: Any) -> Settings:
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {
            "training": self.service.server.address,
            "model": self.keys.address,
            "inference": self.backend.address,
        }
        if self.embedding:
            addresses["embedding"] = self.embedding
        return Settings(
            api=ApiSettings(**api),
            auth=self.auth,
            data_dir=self.folder,
            addresses=addresses,
            api_tokens=TOKENS,
            service_token=file_platform.SERVICE_TOKEN,
        )

    async def start_edge(self, **api: Any) -> str:
        """Starts one more edge; gives its URL."""
        edge = live_edge(self.settings(**api))
        _, _, host, port = await self.exits.enter_async_context(edge)
        url = f"http://{host}:{port}"
        self.clients.append(await self.client(url, TOKENS[0]))
        return url

    async def client(self, url: str, token: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"}
        made = httpx.AsyncClient(base_url=url, headers=headers, timeout=60)
        return await self.exits.enter_async_context(made)

    async def upload(self, lines: Sequence[Any], http: httpx.AsyncClient | None = None) -> str:
        text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        answer = await (http or self.http).post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", text)}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def create(
        self, lines: Sequence[Any], http: httpx.AsyncClient | None = None, **more: Any
    ) -> dict[str, Any]:
        body = {
            "input_file_id": await self.upload(lines, http),
            "endpoint": CHAT,
            "completion_window": "24h",
        }
        answer = await (http or self.http).post("/v1/batches", json=body | more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, batch_id: str, http: httpx.AsyncClient | None = None) -> dict[str, Any]:
        answer = await (http or self.http).get(f"/v1/batches/{batch_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(
        self, batch_id: str, *statuses: str, http: httpx.AsyncClient | None = None
    ) -> dict[str, Any]:
        async with asyncio.timeout(100):
            while True:
                batch = await self.get(batch_id, http)
                if batch["status"] in statuses:
                    return batch
                assert batch["status"] not in ENDS, batch
                await asyncio.sleep(0.05)

    async def counted(
        self, batch_id: str, completed: int, http: httpx.AsyncClient | None = None
    ) -> None:
        """Waits until so many requests were answered well."""
        async with asyncio.timeout(60):
            while (await self.get(batch_id, http))["request_counts"]["completed"] < completed:  # noqa: ASYNC110 - it is another process's
                await asyncio.sleep(0.05)

    async def lines(self, file_id: str | None, http: httpx.AsyncClient | None = None) -> list[Any]:
        if file_id is None:
            return []
        answer = await (http or self.http).get(f"/v1/files/{file_id}/content")
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    async def end_leases(self) -> None:
        """Lets the time of every lease pass."""
        async with self.service.store.database.writing() as connection:
            held = BATCHES.c.lease_until.is_not(None)
            await connection.execute(update(BATCHES).where(held).values(lease_until=utc_now()))


ENDS = ("completed", "failed", "expired", "cancelled")


def line(number: int, model: str = "words", **body: Any) -> dict[str, Any]:
    content = {"model": model, "messages": [{"role": "user", "content": f"say {number}"}]}
    return {
        "custom_id": f"c-{number}",
        "method": "POST",
        "url": CHAT,
        "body": content | body,
    }


def check_whole(found: Sequence[Any], count: int) -> None:
    """Each request has one result, and it is the right one."""
    assert Counter(one["custom_id"] for one in found) == Counter(
        f"c-{number}" for number in range(count)
    )
    for one in found:
        number = one["custom_id"].removeprefix("c-")
        said = one["response"]["body"]["choices"][0]["message"]["content"]
        assert said.strip() == f"say {number}"


@asynccontextmanager
async def batch_stack(
    folder: Path, url: str = "", jwt: JwtRules | None = None
) -> AsyncIterator[BatchStack]:
    """A service whose keeper works, and no edge. `jwt` says whose tokens are taken."""
    jwt = jwt or JwtRules()
    async with AsyncExitStack() as exits:
        backend = SlowBackend()
        await backend.start()
        exits.push_async_callback(backend.stop)
        identities = Identities(jwt=jwt_of(AuthSettings(jwt=jwt)))
        service = await exits.enter_async_context(
            file_platform.platform(folder, url, identities=identities)
        )
        keeping = asyncio.create_task(service.keeper.run())
        exits.push_async_callback(_ended, keeping)
        keys = await exits.enter_async_context(key_feed())
        yield BatchStack(folder, backend, keys, service, exits, auth=AuthSettings(jwt=jwt))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
