"""Limits of who calls a service directly: what the edge counted already is not counted again."""

from collections.abc import Iterable, Mapping
from typing import Any

from policy.limits_port import (
    Allowance,
    LimitReachedError,
    LimitsUnavailableError,
)
from policy.limits_requests import RequestLimiter
from policy.limits_tokens import TokenLimiter, TokenReservation
from policy.vouchers import KEY, Vouchers
from services.errors import RateLimited, Unavailable
from services.metering import TokenAllowance, Work
from services.rpc.call import Call, current
from services.rpc.metadata import NO_DIALECT
from telemetry.limits import UNCHECKED, refused

Pairs = tuple[tuple[str, str], ...]


class CallLimits:
    """Lets calls in, within the limits of their callers."""

    def __init__(self, limiter: RequestLimiter, vouchers: Vouchers) -> None:
        """Takes what counts, and what tells that somebody has counted."""
        self._limiter = limiter
        self._vouchers = vouchers

    async def admit(self, call: Call, metadata: Mapping[str, Any], *, lasting: bool = True) -> None:
        """Counts a call, unless that was done. Its admission is to be ended when it is over.

        Raises `RateLimited`, or `Unavailable` where nobody knows.
        """
        principal = call.principal
        if principal is None:
            return
        if self._vouchers.holds(metadata.get(KEY), call.request_id, principal.id):
            return
        call.dialect = NO_DIALECT  # only the edge knows better
        try:
            call.admission = await self._limiter.admit(principal, lasting=lasting)
        except LimitReachedError as error:
            call.requests = error.allowance
            raise reached(error) from None
        except LimitsUnavailableError as error:
            raise unavailable(error) from None
        call.requests = call.admission.allowance


class WorkLimits:
    """Reserves tokens for work, within the limits of its principal."""

    def __init__(self, limiter: TokenLimiter) -> None:
        self._limiter = limiter

    async def admit(self, work: Work) -> "WorkReservation":
        """Reserves the prompt's tokens and as many as may follow.

        Raises `RateLimited`, or `Unavailable` where nobody knows.
        """
        tokens = work.prompt_tokens + work.most_output_tokens
        call = current()
        try:
            reservation = await self._limiter.reserve(work.principal, tokens)
        except LimitReachedError as error:
            if call is not None:
                call.tokens = error.allowance
            raise reached(error) from None
        except LimitsUnavailableError as error:
            raise unavailable(error) from None
        if call is not None:
            call.tokens = reservation.allowance
        return WorkReservation(reservation)


class WorkReservation:
    """Tokens that are held for work."""

    def __init__(self, reservation: TokenReservation) -> None:
        self._reservation = reservation

    @property
    def allowance(self) -> TokenAllowance | None:
        """What is left after it. None where there is no limit."""
        left = self._reservation.allowance
        return None if left is None else TokenAllowance(left.limit, left.remaining, left.reset_s)

    def settle(self, total_tokens: int) -> None:
        """Gives back what was not used."""
        self._reservation.settle(total_tokens)


def told(call: Call) -> Pairs:
    """Returns the metadata that tell callers what they may still do."""
    return (*_pairs("requests", call.requests), *_pairs("tokens", call.tokens))


def reached(error: LimitReachedError) -> RateLimited:
    """Returns what callers are told of a limit that is reached, and counts that it was."""
    refused(error.kind.value)
    return RateLimited(error.message, retry_after_s=error.wait_s, metadata=error.facts)


def unavailable(error: LimitsUnavailableError) -> Unavailable:
    """Returns what callers are told of limits that can't be checked."""
    refused(UNCHECKED)
    return Unavailable(error.message, retry_after_s=error.retry_after_s)


def _pairs(of: str, allowance: Allowance | None) -> Iterable[tuple[str, str]]:
    if allowance is not None:
        yield f"x-ratelimit-limit-{of}", str(allowance.limit)
        yield f"x-ratelimit-remaining-{of}", str(allowance.remaining)
        yield f"x-ratelimit-reset-{of}", f"{allowance.reset_s:.3f}s"
