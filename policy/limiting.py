"""Sets limits up: in memory, or in Redis for all processes together."""

from dataclasses import dataclass, field

from limits.aio.strategies import MovingWindowRateLimiter

from policy.limits_memory import MemoryCounters, MovingWindows
from policy.limits_port import Counters, WhenUnavailable
from policy.limits_requests import RequestLimiter, Windows
from policy.limits_tokens import Spent, TokenLimiter, nothing_spent
from policy.limits_windows import MovingWindow
from policy.principals import Limits


@dataclass(frozen=True)
class LimitSettings:
    """How requests and tokens are limited."""

    defaults: Limits = field(default_factory=Limits)
    """Limits of principals who have none of their own."""
    when_unavailable: WhenUnavailable = WhenUnavailable.CLOSED_FOR_TOKENS
    """What happens while Redis is away."""
    redis_url: str = field(default="", repr=False)
    """Where is counted. Empty: in this process."""
    redis_timeout_s: float = 2.0
    """How long Redis is waited for."""


class Limiting:
    """What counts the limits of a process."""

    def __init__(self, settings: LimitSettings, *, namespace: str = "") -> None:
        """Takes how to count; requests are counted under `namespace`."""
        self._settings = settings
        windows: Windows
        if settings.redis_url:
            # Only who counts in Redis needs its client.
            from policy.limits_redis import AWAY, RedisCounters, storage

            timeout_s = settings.redis_timeout_s
            shared = storage(settings.redis_url, timeout_s)
            windows = MovingWindow(MovingWindowRateLimiter(shared), AWAY)
            self._counters: Counters = RedisCounters(shared, timeout_s)
        else:
            windows = MovingWindow(MovingWindowRateLimiter(MovingWindows()), ())
            self._counters = MemoryCounters()
        self.requests = RequestLimiter(
            settings.defaults,
            windows,
            self._counters,
            when_unavailable=settings.when_unavailable,
            namespace=namespace,
        )
        """Limits requests."""

    def tokens(self, spent: Spent = nothing_spent) -> TokenLimiter:
        """Returns what limits tokens; `spent` knows what was used before."""
        return TokenLimiter(
            self._settings.defaults,
            self._counters,
            spent=spent,
            when_unavailable=self._settings.when_unavailable,
        )

    async def close(self) -> None:
        """Lets connections go."""
        await self._counters.close()
