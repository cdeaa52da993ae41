"""Requests a minute, by token. One edge counts for itself, in memory."""

import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from gateway.auth import Principal
from gateway.errors import Problem


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still do."""

    limit: int
    """Requests a minute."""
    remaining: int
    """Requests left now."""
    reset_s: float
    """Seconds until one more is free."""


class RequestLimiter:
    """Admits so many requests in any sixty seconds."""

    def __init__(self, requests_per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(requests_per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def admit(self, principal: Principal) -> tuple[Allowance, Problem | None]:
        """Counts a request, and tells the allowance and whether the request is one too many."""
        admitted = await self._limiter.hit(self._item, principal.id)
        stats = await self._limiter.get_window_stats(self._item, principal.id)
        reset_s = max(stats.reset_time - time.time(), 0.0)
        allowance = Allowance(self._item.amount, max(stats.remaining, 0), reset_s)
        if admitted:
            return allowance, None
        message = (
            f"Rate limit reached: {self._item.amount} requests per minute. "
            f"Try again in {reset_s:.1f} s."
        )
        problem = Problem(
            "RATE_LIMITED", message, retry_after_s=reset_s, metadata={"limit": "requests"}
        )
        return allowance, problem
