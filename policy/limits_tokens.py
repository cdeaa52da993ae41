"""Limits of tokens: so many a minute, a day, a month.

What a request may use is reserved before it begins, in every window or in none, and what it used is
put in its place when it ends. So the tokens of all requests that were let in during any 60 seconds,
a day or a month never exceed the limit, whenever they end.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from policy.limits_port import (
    Allowance,
    Counters,
    Full,
    Kind,
    Level,
    LimitReachedError,
    LimitsUnavailableError,
    StoreAwayError,
    Unknown,
    WhenUnavailable,
    Window,
)
from policy.limits_requests import limits_of
from policy.principals import Limits, Principal

Spent = Callable[[str, float], Awaitable[int]]
"""Tells how many tokens a principal (its ID) has used since a Unix time."""

_SPANS = {Kind.TOKENS: "per minute", Kind.DAY: "per day", Kind.MONTH: "per month"}


async def nothing_spent(_principal: str, _since: float) -> int:
    """Knows of nothing that was used before."""
    return 0


class TokenReservation:
    """Tokens that a request may use."""

    __slots__ = ("_counters", "_member", "_owner", "_windows", "allowance")

    def __init__(
        self,
        counters: Counters,
        owner: str,
        member: str,
        windows: Sequence[Window],
        allowance: Allowance | None,
    ) -> None:
        self.allowance = allowance
        """Tokens a minute. None: there is no limit."""
        self._counters = counters
        self._owner = owner
        self._member = member
        self._windows = windows

    def settle(self, total_tokens: int) -> None:
        """Puts what was used in the place of what was reserved. Only the first time counts."""
        windows, self._windows = self._windows, ()
        if windows:
            self._counters.settle(self._owner, self._member, total_tokens, windows)


class TokenLimiter:
    """Reserves tokens for requests of a principal, within its limits."""

    def __init__(
        self,
        defaults: Limits,
        counters: Counters,
        *,
        spent: Spent = nothing_spent,
        when_unavailable: WhenUnavailable = WhenUnavailable.CLOSED_FOR_TOKENS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes the limits of those who have none of their own, and what knows of tokens that were
        used before anybody counted here."""
        self._defaults = defaults
        self._counters = counters
        self._spent = spent
        self._open = when_unavailable is WhenUnavailable.OPEN
        self._clock = clock

    async def reserve(self, principal: Principal, tokens: int) -> TokenReservation:
        """Reserves tokens: the prompt's, and as many as may follow.

        Raises:
            LimitReachedError: they are too many.
            LimitsUnavailableError: nobody knows.
        """
        owner, member = principal.id, secrets.token_hex(8)
        windows = windows_of(limits_of(principal, self._defaults), self._clock())
        if not windows:
            return TokenReservation(self._counters, owner, member, (), None)
        for window in windows:
            if tokens > window.limit:
                raise _too_large(window, tokens)
        try:
            reply = await self._counters.reserve(owner, member, tokens, windows, {})
            if isinstance(reply, Unknown):
                known = await self._known(owner, [windows[place] for place in reply.places])
                reply = await self._counters.reserve(owner, member, tokens, windows, known)
        except StoreAwayError:
            if self._open:
                return TokenReservation(self._counters, owner, member, (), None)
            raise LimitsUnavailableError("tokens") from None
        if isinstance(reply, Full):
            raise _reached(windows[reply.place], reply, tokens)
        if isinstance(reply, Unknown):
            raise LimitsUnavailableError("tokens")
        allowance = _allowance(windows[0], reply.levels[0])
        return TokenReservation(self._counters, owner, member, windows, allowance)

    async def _known(self, owner: str, windows: Sequence[Window]) -> Mapping[str, int]:
        try:
            return {w.key: await self._spent(owner, _begin(w.kind, self._clock())) for w in windows}
        except StoreAwayError:
            raise
        except Exception as error:
            raise StoreAwayError from error


def windows_of(limits: Limits, now: float) -> tuple[Window, ...]:
    """Returns the windows that limits make at a time; that of the minute comes first."""
    windows: list[Window] = []
    if limits.tokens_per_minute:
        windows.append(Window(Kind.TOKENS, "tokens", limits.tokens_per_minute))
    if limits.tokens_per_day:
        windows.append(_calendar(Kind.DAY, limits.tokens_per_day, now))
    if limits.tokens_per_month:
        windows.append(_calendar(Kind.MONTH, limits.tokens_per_month, now))
    return tuple(windows)


def _calendar(kind: Kind, limit: int, now: float) -> Window:
    begin = datetime.fromtimestamp(_begin(kind, now), UTC)
    if kind is Kind.DAY:
        return Window(kind, f"day:{begin:%Y-%m-%d}", limit, begin.timestamp() + 86400)
    months = begin.year * 12 + begin.month  # that of the next, counted from 0
    end = begin.replace(year=months // 12, month=months % 12 + 1)
    return Window(kind, f"month:{begin:%Y-%m}", limit, end.timestamp())


def _begin(kind: Kind, now: float) -> float:
    moment = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (moment.replace(day=1) if kind is Kind.MONTH else moment).timestamp()


def _allowance(window: Window, level: Level) -> Allowance | None:
    if window.kind is not Kind.TOKENS:
        return None
    return Allowance(window.limit, max(window.limit - level.used, 0), level.reset_s)


def _too_large(window: Window, tokens: int) -> LimitReachedError:
    return LimitReachedError(
        window.kind,
        f"The request may use {tokens} tokens, prompt and output together, but the limit is "
        f"{window.limit} tokens {_SPANS[window.kind]}: ask for fewer, by a lower `max_tokens` or a "
        "shorter prompt.",
        limit=window.limit,
        requested=tokens,
        wait_s=60.0,
    )


def _reached(window: Window, full: Full, tokens: int) -> LimitReachedError:
    left = max(window.limit - full.level.used, 0)
    if window.kind is Kind.TOKENS:
        then = f"Try again in {full.wait_s:.1f} s, or ask for fewer by a lower `max_tokens`."
    else:
        then = f"A new {window.kind.value} (UTC) begins in {_span(full.wait_s)}."
    return LimitReachedError(
        window.kind,
        f"Limit reached: {window.limit} tokens {_SPANS[window.kind]}. {left} are left, and the "
        f"request may use {tokens}. {then}",
        limit=window.limit,
        requested=tokens,
        wait_s=full.wait_s,
        allowance=_allowance(window, full.level),
    )


def _span(seconds: float) -> str:
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
