"""Limits: what is limited, what is told of it, and the port of the places where it is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MINUTE_S = 60.0


class Kind(StrEnum):
    """What a limit is of."""

    REQUESTS = "requests"
    """Requests in any 60 seconds."""
    CONCURRENCY = "concurrency"
    """Requests that run or wait at once."""
    TOKENS = "tokens"
    """Tokens of the requests of any 60 seconds."""
    DAY = "day"
    """Tokens of a day of UTC."""
    MONTH = "month"
    """Tokens of a calendar month of UTC."""


class WhenUnavailable(StrEnum):
    """What happens to requests while limits can't be checked."""

    CLOSED = "closed"
    """All that have a limit are turned away."""
    CLOSED_FOR_TOKENS = "closed_for_tokens"
    """Those with a limit of tokens are turned away, since tokens cost money."""
    OPEN = "open"
    """Nobody is turned away, and nothing is counted."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still do."""

    limit: int
    """Requests, or tokens, a minute."""
    remaining: int
    """Of these, what is left now."""
    reset_s: float
    """Requests: seconds until one more is free. Tokens: until all are."""


class LimitReachedError(Exception):
    """A request is one too many, or too large. The message is for the caller."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        limit: int,
        wait_s: float,
        requested: int = 1,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.wait_s = wait_s
        """Seconds until a repeat makes sense."""
        self.allowance = allowance
        """What the caller has left of what is counted by the minute."""
        self.facts: Mapping[str, str] = {
            "limit": kind.value,
            "allowed": str(limit),
            "requested": str(requested),
        }
        """The same for machines: `requested` over `allowed` can never succeed."""


class LimitsUnavailableError(Exception):
    """Limits can't be checked now. The message is for the caller."""

    retry_after_s = 1.0

    def __init__(self, what: str) -> None:
        self.message = (
            f"Limits of {what} can't be checked now, because the place where they are counted "
            "can't be reached. Nothing was done. Try again shortly."
        )
        super().__init__(self.message)


class StoreAwayError(Exception):
    """The place where limits are counted can't be reached, or takes too long."""


@dataclass(frozen=True, slots=True)
class Window:
    """A limit of tokens."""

    kind: Kind
    key: str
    """Names the window among those of its owner."""
    limit: int
    ends_at: float | None = None
    """Unix time at which a day or month is over. None: what is reserved counts for a minute."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full a window is."""

    used: int
    """Used and reserved."""
    reset_s: float
    """Seconds until all of it is free again."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation was made."""

    levels: Sequence[Level]
    """Of each window."""


@dataclass(frozen=True, slots=True)
class Full:
    """A window has no room; nothing was reserved in any."""

    place: int
    """Which, among those that were asked for."""
    level: Level
    wait_s: float
    """Seconds until there is room."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Windows that nobody has counted in; nothing was reserved in any."""

    places: Sequence[int]


class Counters(Protocol):
    """Counts what runs and what is reserved. An owner is a principal's ID."""

    async def lease(self, owner: str, member: str, limit: int) -> bool:
        """Takes one of `limit` places; False when none is free. Raises `StoreAwayError`."""
        ...

    def end_lease(self, owner: str, member: str) -> None:
        """Gives a place back. What is asked for later comes after."""
        ...

    async def reserve(
        self,
        owner: str,
        member: str,
        amount: int,
        windows: Sequence[Window],
        known: Mapping[str, int],
    ) -> Reserved | Full | Unknown:
        """Reserves an amount in all windows or in none.

        `known` tells what was used before in days and months that nobody has counted in, by key;
        without it they are `Unknown`. Raises `StoreAwayError`.
        """
        ...

    def settle(self, owner: str, member: str, amount: int, windows: Sequence[Window]) -> None:
        """Puts what was used in the place of what was reserved. What is asked for later comes
        after."""
        ...

    async def close(self) -> None:
        """Lets connections go."""
        ...
