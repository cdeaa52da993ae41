"""Requests in any minute, counted by the library `limits`.

Apart from what limits requests: clients need that too, and the library takes a while to import.
"""

import time

from limits import RateLimitItemPerMinute
from limits.aio.strategies import MovingWindowRateLimiter

from policy.limits_port import MINUTE_S, Allowance, StoreAwayError


class MovingWindow:
    """Requests in any 60 seconds, with the library's moving window."""

    def __init__(self, limiter: MovingWindowRateLimiter, away: tuple[type[Exception], ...]) -> None:
        """Takes the library's strategy, and what is raised while its storage is away."""
        self._limiter = limiter
        self._away = away

    async def hit(self, owner: str, limit: int) -> tuple[bool, Allowance]:
        """Counts a request if there is room for it."""
        item = RateLimitItemPerMinute(limit)
        try:
            admitted = await self._limiter.hit(item, owner)
            stats = await self._limiter.get_window_stats(item, owner)
        except self._away as error:
            raise StoreAwayError from error
        reset_s = min(max(stats.reset_time - time.time(), 0.0), MINUTE_S)
        return admitted, Allowance(limit, max(stats.remaining, 0), reset_s)
