"""Limits that are counted in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

from policy.limiting import Limiting, LimitSettings
from policy.limits_port import (
    Kind,
    LimitReachedError,
    LimitsUnavailableError,
    Reserved,
    StoreAwayError,
    Unknown,
    WhenUnavailable,
    Window,
)
from policy.limits_redis import RedisCounters, storage
from policy.limits_requests import Admission
from policy.limits_tokens import TokenLimiter, TokenReservation
from policy.principals import Limits, Principal, Role
from tests.redis_server import RedisServer, running_redis
from tests.unit.policy.limits_machine import LimitsMachine

ADA = Principal("ada", "ada", frozenset({Role.USER}))
DAY = Window(Kind.DAY, "day:1", 100, ends_at=time.time() + 3600)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """An empty one."""
    server.kill()
    server.start()
    return server


@contextlib.asynccontextmanager
async def counting(server: RedisServer, **given: Any) -> AsyncIterator[RedisCounters]:
    counters = RedisCounters(storage(server.url, PATIENCE_S), PATIENCE_S, **given)
    try:
        yield counters
    finally:
        await counters.close()


@contextlib.asynccontextmanager
async def limiting(
    server: RedisServer,
    *,
    timeout_s: float = PATIENCE_S,
    when: str = "closed_for_tokens",
    **of: int,
) -> AsyncIterator[Limiting]:
    """What counts the limits of one process."""
    settings = LimitSettings(
        Limits(**of),
        when_unavailable=WhenUnavailable(when),
        redis_url=server.url,
        redis_timeout_s=timeout_s,
    )
    made = Limiting(settings)
    try:
        yield made
    finally:
        await made.close()


async def reserved_in_the_end(limiter: TokenLimiter, amount: int) -> TokenReservation:
    """Waits for what other processes still have to settle."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await limiter.reserve(ADA, amount)
        except LimitReachedError:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


class RedisMachine(LimitsMachine):
    """Each begins with an empty Redis."""

    url: ClassVar[str]

    def make(self) -> RedisCounters:
        self.loop = asyncio.new_event_loop()
        return self.run_(self.made())

    async def made(self) -> RedisCounters:
        counters = RedisCounters(storage(self.url, PATIENCE_S), PATIENCE_S)
        await counters._client.flushall()
        return counters

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def ends_at(self) -> float:
        return DAY.ends_at or 0.0

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.run_(self.counters.close())
            self.loop.close()


def test_limits_hold_in_redis(server: RedisServer) -> None:
    class Machine(RedisMachine):
        url = server.url

    case = Machine.TestCase
    case.settings = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


async def test_two_processes_share_every_limit(redis: RedisServer) -> None:
    async with (
        limiting(redis, requests_per_minute=30, concurrent_requests=40) as one,
        limiting(redis, requests_per_minute=30, concurrent_requests=40) as other,
    ):
        outcomes = await asyncio.gather(
            *(which.requests.admit(ADA) for which in (one, other) for _ in range(100)),
            return_exceptions=True,
        )
        admitted = [outcome for outcome in outcomes if isinstance(outcome, Admission)]
        assert len(admitted) == 30
        refused = [outcome for outcome in outcomes if not isinstance(outcome, Admission)]
        assert all(isinstance(outcome, LimitReachedError) for outcome in refused)
    async with (
        limiting(redis, tokens_per_minute=1000, tokens_per_day=2000) as one,
        limiting(redis, tokens_per_minute=1000, tokens_per_day=2000) as other,
    ):
        limiters = [one.tokens(), other.tokens()]
        replies = await asyncio.gather(
            *(limiter.reserve(ADA, 30) for limiter in limiters for _ in range(100)),
            return_exceptions=True,
        )
        reserved = [reply for reply in replies if not isinstance(reply, BaseException)]
        assert len(reserved) == 33
        for reservation in reserved:
            reservation.settle(10)
        last = await reserved_in_the_end(limiters[0], 1000 - 330)
        assert last.allowance is not None
        assert last.allowance.remaining == 0


async def test_closing_ends_while_places_are_given_back(redis: RedisServer) -> None:
    for _ in range(20):
        async with asyncio.timeout(PATIENCE_S):
            async with limiting(redis, requests_per_minute=9, concurrent_requests=40) as one:
                await asyncio.gather(
                    *(one.requests.admit(ADA) for _ in range(100)), return_exceptions=True
                )


async def test_a_place_is_free_for_who_asks_next(redis: RedisServer) -> None:
    async with limiting(redis, concurrent_requests=1) as one:
        for _ in range(20):
            (await one.requests.admit(ADA)).end()


async def test_what_a_dead_process_held_is_free_again(redis: RedisServer) -> None:
    async with counting(redis, lease_s=3) as dead, counting(redis) as alive:
        assert await dead.lease("ada", "a", 1)
        assert isinstance(await dead.reserve("ada", "a", 60, (DAY,), {DAY.key: 0}), Reserved)
        assert not await alive.lease("ada", "b", 1)
        for task in dead._tasks:  # as a kill does: nothing is renewed, nothing is given back
            task.cancel()
        dead._tasks = []
        until = time.monotonic() + PATIENCE_S
        while not await alive.lease("ada", "b", 1):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        # The tokens were held a moment later than the place, and are free a moment later.
        while not isinstance(await alive.reserve("ada", "b", 100, (DAY,), {}), Reserved):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


async def test_what_lives_long_is_renewed(redis: RedisServer) -> None:
    async with counting(redis, lease_s=3) as alive, counting(redis) as other:
        assert await alive.lease("ada", "a", 1)
        assert isinstance(await alive.reserve("ada", "a", 60, (DAY,), {DAY.key: 0}), Reserved)
        for _ in range(9):
            await asyncio.sleep(0.5)
            assert not await other.lease("ada", "b", 1)
            assert not isinstance(await other.reserve("ada", "b", 41, (DAY,), {}), Reserved)


async def test_who_gives_up_holds_nothing(redis: RedisServer) -> None:
    async with counting(redis) as counters:
        asking = [asyncio.create_task(counters.lease("ada", f"gone{n}", 5)) for n in range(5)]
        reserving = asyncio.create_task(counters.reserve("ada", "gone", 100, (DAY,), {DAY.key: 0}))
        await asyncio.sleep(0)
        for task in (*asking, reserving):
            task.cancel()
        await asyncio.gather(*asking, reserving, return_exceptions=True)
        for n in range(5):
            assert await counters.lease("ada", f"here{n}", 5)
        assert isinstance(await counters.reserve("ada", "here", 100, (DAY,), {}), Reserved)


@pytest.mark.parametrize(
    ("when", "requests", "tokens"),
    [("closed", False, False), ("closed_for_tokens", True, False), ("open", True, True)],
)
async def test_redis_away(redis: RedisServer, when: str, requests: bool, tokens: bool) -> None:
    limits = {"requests_per_minute": 1, "concurrent_requests": 1, "tokens_per_minute": 1}
    async with limiting(redis, timeout_s=5.0, when=when, **limits) as one:
        redis.kill()
        for _ in range(3):
            if requests:
                (await one.requests.admit(ADA)).end()
            else:
                with pytest.raises(LimitsUnavailableError, match="requests can't be checked"):
                    await one.requests.admit(ADA)
            if tokens:
                (await one.tokens().reserve(ADA, 1)).settle(1)
            else:
                with pytest.raises(LimitsUnavailableError, match="tokens can't be checked"):
                    await one.tokens().reserve(ADA, 1)
        redis.start()
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(LimitsUnavailableError):
                reservation = await one.tokens().reserve(ADA, 1)
                if reservation.allowance is not None:
                    break
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        with pytest.raises(LimitReachedError):
            await one.tokens().reserve(ADA, 1)


async def test_a_redis_that_hangs_is_not_waited_for_long(redis: RedisServer) -> None:
    async with counting(redis) as holding:
        assert await holding.lease("ada", "x", 9)
    accepted: list[asyncio.StreamWriter] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    hung = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = hung.sockets[0].getsockname()[1]
    counters = RedisCounters(storage(f"redis://127.0.0.1:{port}", 0.2), 0.2)
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(3):
            with pytest.raises(StoreAwayError):
                await counters.lease("ada", "a", 1)
    await counters.close()
    for writer in accepted:
        writer.close()
    hung.close()


async def test_what_was_used_is_told_once_redis_is_back(redis: RedisServer) -> None:
    """Settlements are not lost while Redis is away, and a Redis that lost all asks anew."""
    async with counting(redis) as counters:
        assert isinstance(await counters.reserve("ada", "a", 60, (DAY,), {DAY.key: 20}), Reserved)
        redis.kill()
        counters.settle("ada", "a", 30, (DAY,))
        await asyncio.sleep(0.1)
        redis.start()
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(StoreAwayError):
                reply = await counters.reserve("ada", "b", 1, (DAY,), {})
                break
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert isinstance(reply, Unknown)
        reply = await counters.reserve("ada", "b", 1, (DAY,), {DAY.key: 50})
        assert isinstance(reply, Reserved)
        assert reply.levels[0].used == 51


@pytest.mark.parametrize("first", [True, False])
async def test_a_settlement_that_is_sent_twice_counts_once(redis: RedisServer, first: bool) -> None:
    async with counting(redis) as counters:
        assert isinstance(await counters.reserve("ada", "a", 60, (DAY,), {DAY.key: 0}), Reserved)
        from policy.limits_redis import _settlement

        order = _settlement("ada", "a", 30, (DAY,))
        counters._put(order)
        reply = await counters.reserve("ada", "b", 1, (DAY,), {})
        assert isinstance(reply, Reserved)
        assert reply.levels[0].used == 31
        assert order.values[2] == 0, "what was sent is known to have been"
        if first:
            order.values[2] = 1
        counters._put(order)
        reply = await counters.reserve("ada", "c", 1, (DAY,), {})
        assert isinstance(reply, Reserved)
        assert reply.levels[0].used == (62 if first else 32)
