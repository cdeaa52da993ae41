"""What `/health` says of the place where limits are counted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.settings_limits import RedisSettings
from tests.integration.gateway.conftest import Edge
from tests.redis_server import RedisServer, running_redis

PATIENCE_S = 60.0


async def health(edge: Edge) -> httpx.Response:
    async with asyncio.timeout(PATIENCE_S):  # a guard: a health check that hangs is worse than none
        return await edge.http.get("/health", timeout=PATIENCE_S)


async def told(edge: Edge, word: str) -> dict[str, Any]:
    """What it says once it says that of Redis; it remembers what it said for a second."""
    until = time.monotonic() + PATIENCE_S
    while (body := (await health(edge)).json())["services"]["redis"] != word:
        assert time.monotonic() < until, body
        await asyncio.sleep(0.1)
    return body


class TestWithRedis:
    @pytest.fixture
    def redis(self) -> Iterator[RedisServer]:
        with running_redis() as running:
            yield running

    @pytest.fixture
    def edge_changes(self, redis: RedisServer) -> dict[str, object]:
        return {"redis": RedisSettings(redis.url, 30.0)}

    async def test_it_says_when_redis_goes_and_comes(self, edge: Edge, redis: RedisServer) -> None:
        first = (await health(edge)).json()
        assert (first["status"], first["services"]["redis"]) == ("healthy", "connected")
        redis.kill()
        away = await told(edge, "disconnected")
        assert away["status"] == "degraded"
        assert away["services"]["llm_worker"] == "ready"
        assert (await health(edge)).status_code == 200
        redis.start()
        assert (await told(edge, "connected"))["status"] == "healthy"


class TestWithoutRedisAtItsAddress:
    @pytest.fixture
    def silent(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    @pytest.fixture
    def edge_changes(self, silent: socket.socket) -> dict[str, object]:
        port = silent.getsockname()[1]
        return {"redis": RedisSettings(f"redis://127.0.0.1:{port}", 10_000.0)}

    async def test_what_never_answers_delays_nothing(self, edge: Edge) -> None:
        body = (await health(edge)).json()
        assert body["services"]["redis"] == "disconnected"
        assert body["status"] == "degraded"


async def test_without_a_redis_the_edge_counts_for_itself(edge: Edge) -> None:
    body = (await health(edge)).json()
    assert (body["status"], body["services"]["redis"]) == ("healthy", "connected")
