"""Limits of requests: so many in any minute, so many at once."""

import secrets
from typing import Protocol

from policy.limits_port import (
    Allowance,
    Counters,
    Kind,
    LimitReachedError,
    LimitsUnavailableError,
    StoreAwayError,
    WhenUnavailable,
)
from policy.principals import Limits, Principal, Role


class Windows(Protocol):
    """Counts requests a minute."""

    async def hit(self, owner: str, limit: int) -> tuple[bool, Allowance]:
        """Counts a request if there is room for it. Raises `StoreAwayError`."""
        ...


class Admission:
    """A request that was let in."""

    __slots__ = ("_counters", "_member", "_owner", "allowance")

    def __init__(self, allowance: Allowance | None, counters: Counters, owner: str) -> None:
        self.allowance = allowance
        """Requests a minute. None: as many as the caller likes."""
        self._counters = counters
        self._owner = owner
        self._member = ""

    def hold(self, member: str) -> None:
        """Notes the place that the request takes."""
        self._member = member

    def end(self) -> None:
        """Gives its place back. May be called again."""
        if self._member:
            self._counters.end_lease(self._owner, self._member)
            self._member = ""


class RequestLimiter:
    """Lets requests of a principal in, within its limits."""

    def __init__(
        self,
        defaults: Limits,
        windows: Windows,
        counters: Counters,
        *,
        when_unavailable: WhenUnavailable = WhenUnavailable.CLOSED_FOR_TOKENS,
        namespace: str = "",
    ) -> None:
        """Takes the limits of those who have none of their own. What is counted under one
        namespace is apart from that of others."""
        self._defaults = defaults
        self._windows = windows
        self._counters = counters
        self._open = when_unavailable is not WhenUnavailable.CLOSED
        self._namespace = namespace

    async def admit(self, principal: Principal, *, lasting: bool = True) -> Admission:
        """Counts a request. Who is let in calls `end` when it is over.

        Requests that don't last take no place.

        Raises:
            LimitReachedError: it is one too many.
            LimitsUnavailableError: nobody knows.
        """
        limits = limits_of(principal, self._defaults)
        owner = self._namespace + principal.id
        admission = Admission(None, self._counters, owner)
        try:
            if limits.concurrent_requests and lasting:
                await self._take_place(admission, owner, limits.concurrent_requests)
            if limits.requests_per_minute:
                await self._count(admission, owner, limits.requests_per_minute)
        except StoreAwayError:
            if not self._open:
                admission.end()
                raise LimitsUnavailableError("requests") from None
        except BaseException:
            admission.end()
            raise
        return admission

    async def _take_place(self, admission: Admission, owner: str, limit: int) -> None:
        member = secrets.token_hex(8)
        if not await self._counters.lease(owner, member, limit):
            raise LimitReachedError(
                Kind.CONCURRENCY,
                f"Limit reached: {limit} requests at once. Wait until one of them has ended.",
                limit=limit,
                wait_s=1.0,
            )
        admission.hold(member)

    async def _count(self, admission: Admission, owner: str, limit: int) -> None:
        admitted, allowance = await self._windows.hit(owner, limit)
        admission.allowance = allowance
        if not admitted:
            raise LimitReachedError(
                Kind.REQUESTS,
                f"Rate limit reached: {limit} requests per minute. "
                f"Try again in {allowance.reset_s:.1f} s.",
                limit=limit,
                wait_s=allowance.reset_s,
                allowance=allowance,
            )


def limits_of(principal: Principal, defaults: Limits) -> Limits:
    """Returns the limits of a principal. Calls between services have none but their own."""
    return principal.limits.over(Limits() if principal.holds(Role.SERVICE) else defaults)
