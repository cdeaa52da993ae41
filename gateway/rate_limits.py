"""Limits of requests: a minute, and at once. Here they are counted for all services."""

from collections.abc import Iterable

from gateway.context import RequestContext
from gateway.errors import Problem, ProblemError
from gateway.settings import Settings
from policy.limiting import Limiting, LimitSettings
from policy.limits_port import (
    Allowance,
    LimitReachedError,
    LimitsUnavailableError,
    WhenUnavailable,
)
from policy.principals import Limits
from policy.vouchers import Vouchers
from telemetry.limits import UNCHECKED, refused

__all__ = ["Allowance", "RequestLimits", "tokens_told"]


class RequestLimits:
    """Lets requests in, within the limits of their callers."""

    def __init__(self, settings: Settings) -> None:
        limits, api, redis = settings.limits, settings.api, settings.redis
        self._limiting = Limiting(
            LimitSettings(
                Limits(
                    requests_per_minute=api.max_requests_per_minute,
                    concurrent_requests=limits.concurrent_requests,
                ),
                when_unavailable=WhenUnavailable(limits.when_unavailable),
                redis_url=redis.url,
                redis_timeout_s=redis.timeout_s,
            ),
            # Without a token, services don't know what was counted here, and count again: apart.
            namespace="" if settings.service_token else "edge:",
        )
        self._vouchers = Vouchers(settings.service_token)

    async def admit(self, context: RequestContext) -> Allowance | None:
        """Counts a request of a known caller, and tells what it may still do.

        What the edge does in the background has limits of its own.

        Raises:
            RefusedError: it is one too many, or nobody knows.
        """
        context.vouchers = self._vouchers
        if context.background:
            return None
        try:
            context.admission = await self._limiting.requests.admit(context.principal)
        except LimitReachedError as error:
            refused(error.kind.value)
            problem = Problem(
                "RATE_LIMITED", error.message, retry_after_s=error.wait_s, metadata=error.facts
            )
            raise RefusedError(problem, error.allowance) from None
        except LimitsUnavailableError as error:
            refused(UNCHECKED)
            problem = Problem("UNAVAILABLE", error.message, retry_after_s=error.retry_after_s)
            raise RefusedError(problem, None) from None
        return context.admission.allowance

    async def close(self) -> None:
        """Lets connections go."""
        await self._limiting.close()


class RefusedError(ProblemError):
    """A request was not let in."""

    def __init__(self, problem: Problem, allowance: Allowance | None) -> None:
        super().__init__(problem)
        self.allowance = allowance
        """What the caller may still do."""


def tokens_told(metadata: Iterable[tuple[str, str | bytes]] | None) -> Allowance | None:
    """Reads what a service tells of its caller's tokens a minute."""
    found = {key: value for key, value in metadata or () if key.endswith("-tokens")}
    try:
        return Allowance(
            int(found["x-ratelimit-limit-tokens"]),
            int(found["x-ratelimit-remaining-tokens"]),
            float(str(found["x-ratelimit-reset-tokens"]).removesuffix("s")),
        )
    except (KeyError, ValueError):
        return None
