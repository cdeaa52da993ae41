"""Settings of limits, beside those that stand in `[api]`."""

from dataclasses import dataclass, field

from gateway.settings_values import SettingsError
from policy.limits_port import WhenUnavailable


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """`[limits]`: more limits of who has none of its own, beside those of `[api]`."""

    concurrent_requests: int = 0
    """Requests of one key that run or wait at once. 0 is no limit."""
    tokens_per_day: int = 0
    """Tokens of one key a day of UTC. 0 is no limit."""
    tokens_per_month: int = 0
    """Tokens of one key a calendar month of UTC. 0 is no limit."""
    when_unavailable: str = WhenUnavailable.CLOSED_FOR_TOKENS.value
    """What happens while limits can't be checked: closed, closed_for_tokens or open."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """`[redis]`: where limits are counted for all processes together."""

    url: str = field(default="", repr=False)
    """Empty: each process counts for itself."""
    timeout_s: float = 2.0
    """How long it is waited for."""


def check(limits: LimitSettings, redis: RedisSettings) -> None:
    """Raises `SettingsError` for values that make no sense."""
    for name in ("concurrent_requests", "tokens_per_day", "tokens_per_month"):
        if getattr(limits, name) < 0:
            raise SettingsError(f"limits.{name} must not be negative")
    words = [word.value for word in WhenUnavailable]
    if limits.when_unavailable not in words:
        raise SettingsError(
            f"limits.when_unavailable must be {', '.join(words[:-1])} or {words[-1]}, "
            f"not {limits.when_unavailable}"
        )
    if redis.timeout_s < 0.01:
        raise SettingsError("redis.timeout_s must be at least 0.01")
