"""Limits that are counted in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import rule
from limits import RateLimitItemPerMinute
from limits.aio.strategies import MovingWindowRateLimiter

from policy.limits_memory import MemoryCounters, MovingWindows
from policy.limits_port import Full, Kind, Reserved, Window
from tests.unit.policy.limits_machine import LimitsMachine


class MemoryMachine(LimitsMachine):
    """With time that passes."""

    time = 1_000_000.0

    def make(self) -> MemoryCounters:
        self.time = 1_000_000.0
        return MemoryCounters(clock=self.now)

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        return at_once(work)

    def now(self) -> float:
        return self.time

    def ends_at(self) -> float:
        return 1_080_000.0

    @rule(seconds=st.sampled_from([0.5, 10, 29, 30, 31, 60, 90]))
    def wait(self, seconds: float) -> None:
        self.time += seconds


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs what never waits, which is why nothing comes between."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


TestMemory = MemoryMachine.TestCase


@given(
    st.integers(1, 5),
    st.lists(st.sampled_from([0.0, 0.1, 5, 29.9, 30, 59.9, 60]), min_size=1, max_size=40),
)
async def test_requests_of_any_minute_are_never_more_than_the_limit(
    limit: int, pauses: list[float]
) -> None:
    now = 1_000_000.0
    windows = MovingWindows(clock=lambda: now)
    limiter, item = MovingWindowRateLimiter(windows), RateLimitItemPerMinute(limit)
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        lately = [time for time in admitted if time > now - 60]
        assert await limiter.hit(item, "ada") == (len(lately) < limit)
        if len(lately) < limit:
            admitted.append(now)
            lately.append(now)
        stats = await limiter.get_window_stats(item, "ada")
        assert stats.remaining == limit - len(lately)
        assert stats.reset_time == lately[0] + 60
        assert (await limiter.get_window_stats(item, "bob")).remaining == limit


async def test_a_full_minute_tells_when_there_is_room() -> None:
    now = 1_000_000.0
    counters = MemoryCounters(clock=lambda: now)
    windows = (Window(Kind.TOKENS, "tokens", 100),)
    for member, amount in (("a", 30), ("b", 30), ("c", 40)):
        assert isinstance(await counters.reserve("ada", member, amount, windows, {}), Reserved)
        now += 10
    for amount, wait_s in ((30, 30.0), (31, 40.0), (60, 40.0), (61, 50.0), (100, 50.0)):
        reply = await counters.reserve("ada", "d", amount, windows, {})
        assert isinstance(reply, Full)
        assert reply.wait_s == wait_s
    now += 40
    assert isinstance(await counters.reserve("ada", "d", 60, windows, {}), Reserved)


async def test_what_is_over_is_forgotten() -> None:
    now = 1_000_000.0
    counters = MemoryCounters(clock=lambda: now)
    window = Window(Kind.DAY, "day:1", 100, ends_at=now + 50)
    for owner in range(100):
        await counters.reserve(f"o{owner}", "a", 1, (window,), {"day:1": 0})
        counters.settle(f"o{owner}", "a", 1, (window,))
        await counters.reserve(f"o{owner}", "b", 1, (Window(Kind.TOKENS, "tokens", 9),), {})
    now += 200
    await counters.reserve("last", "a", 1, (Window(Kind.TOKENS, "tokens", 9),), {})
    assert len(counters._books) == 1
