"""`/health`: how the platform stands, in one look. Open to all; answers from a short memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

import grpc
import orjson
from grpc_health.v1 import health_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.clients import HealthCheck
from gateway.key_feed import KeyWait
from gateway.settings import Settings

_DEADLINE_S = 1.0
_MEMORY_S = 1.0

_WORKERS = {"llm_worker": "inference", "sd_worker": "image"}


@cache
def platform_version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "0.1.0"


@dataclass(frozen=True, slots=True)
class Report:
    """What the services said."""

    states: Mapping[str, str]
    """ready, loading or unavailable, by service."""
    expected: frozenset[str]
    """Services that should be there."""
    counts: bool
    """Whether the place where limits are counted is there."""

    @property
    def status(self) -> str:
        """healthy, degraded or unhealthy."""
        states = [self.states[name] for name in self.expected]
        if self.counts and all(state == "ready" for state in states):
            return "healthy"
        workers = [self.states[name] for name in self.expected if name != "model"]
        return "degraded" if "ready" in workers else "unhealthy"


class Health:
    """Asks services for their health, at most once a second."""

    def __init__(
        self, settings: Settings, checks: Mapping[str, HealthCheck], keys: KeyWait
    ) -> None:
        self._expected = set(settings.expected_services)
        self._keys = keys
        self._checks = checks
        self._counts = _redis(settings.redis.url, settings.redis.timeout_s)
        self._version = platform_version()
        self._asking: asyncio.Task[Report] | None = None
        self._asked = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers `GET` and `POST /health`."""
        report = await self.report()
        ready = self._keys.over
        status = report.status if ready else "unhealthy"
        body = {
            "status": status,
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "version": self._version,
            "services": {
                # Without a Redis the edge counts for itself: that is there whenever the edge is.
                "redis": "connected" if report.counts else "disconnected",
                **{worker: report.states[name] for worker, name in _WORKERS.items()},
            },
            "ready": ready,
        }
        await send_json(send, orjson.dumps(body), 503 if status == "unhealthy" else 200)

    async def serves(self, service: str) -> bool:
        """Tells whether a service answers, and the edge can tell callers apart."""
        return self._keys.over and (await self.report()).states.get(service) == "ready"

    async def report(self) -> Report:
        """What the services say now, or said a moment ago."""
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked > _MEMORY_S):
            self._asked = now
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Report:
        states, counts = await asyncio.gather(self._states(), self._counts())
        # A service that was there once is missed from then on.
        self._expected.update(name for name, state in states.items() if state != "unavailable")
        return Report(states, frozenset(self._expected), counts)

    async def _states(self) -> dict[str, str]:
        states = await asyncio.gather(*map(_state, self._checks.values()))
        return dict(zip(self._checks, states, strict=True))


async def _state(check: HealthCheck) -> str:
    try:
        answer = await check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)
    except grpc.aio.AioRpcError:
        return "unavailable"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "ready" if serving else "loading"


def _redis(url: str, timeout_s: float) -> Callable[[], Awaitable[bool]]:
    """Returns what asks whether Redis answers, over a connection of its own each time."""
    if not url:
        return _always
    # Only who counts in Redis needs its client.
    from policy.limits_redis import AWAY, storage

    bridge: Any = storage(url, min(timeout_s, _DEADLINE_S)).bridge
    client: Any = bridge.get_connection()

    async def answers() -> bool:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await client.ping()
        except AWAY:
            return False
        finally:
            await client.connection_pool.disconnect()
        return True

    return answers


async def _always() -> bool:
    return True
