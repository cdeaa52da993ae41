"""The port of metering: a request is admitted within its principal's limits, and what it used is
settled when it ends, also where it was cut short."""

from asyncio import CancelledError
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from policy.principals import Principal
from services.errors import Cancelled, DeadlineExceeded


class Outcome(StrEnum):
    """What became of a request."""

    OK = "ok"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Work:
    """What a request asks for."""

    principal: Principal
    request_id: str
    """`x-request-id` of the request."""
    method: str
    """Method that serves it, `penstock.inference.v1.InferenceService/Chat`."""
    model: str
    """ID of the model."""
    prompt_tokens: int = 0
    """Exact."""
    most_output_tokens: int = 0
    """Most that may be generated, over all choices."""
    dialect: str = "grpc"
    """Dialect that it came in; `grpc` for direct callers."""
    user: str = ""
    """The end user on whose behalf it is made."""
    digest: str = ""
    """Tells the request from others that bear the same ID: a retry has the same."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a request used."""

    outcome: Outcome
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    images: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    first_token_s: float | None = None
    """From its place in the queue to its first token."""
    next_token_s: float | None = None
    """Mean time of each token after the first."""


@dataclass(frozen=True, slots=True)
class TokenAllowance:
    """What a principal may still use of a limit of tokens a minute."""

    limit: int
    remaining: int
    reset_s: float
    """Seconds until all of it is free again."""


class Metered(Protocol):
    """A request that was admitted."""

    @property
    def allowance(self) -> TokenAllowance | None:
        """What is left after the reservation. None where there is no limit."""
        ...

    def settle(self, used: Used) -> None:
        """Tells what was used; once, before the caller is told of the end. When it returns, no
        crash of this process can lose it."""
        ...

    def withdraw(self) -> None:
        """Tells that the request was turned away before it began: nothing is kept of it."""
        ...


class Meter(Protocol):
    """Admits requests and keeps account of them."""

    async def admit(self, work: Work) -> Metered:
        """Reserves what the work may use. Raises `RateLimited`."""
        ...


class Unmetered:
    """Admits everything and keeps account of nothing."""

    async def admit(self, work: Work) -> Metered:
        """Reserves nothing."""
        return FREE


class _Free:
    allowance: TokenAllowance | None = None

    def settle(self, used: Used) -> None:
        """Keeps nothing."""

    def withdraw(self) -> None:
        """Keeps nothing."""


FREE: Metered = _Free()
"""A request of which no account is kept."""


def outcome_of(error: BaseException | None, *, is_late: bool = False) -> Outcome:
    """Tells what became of a request that ended with an exception, or without one.

    One that is cancelled while it `is_late` was cancelled because its deadline passed.
    """
    match error:
        case None:
            return Outcome.OK
        case DeadlineExceeded():
            return Outcome.DEADLINE_EXCEEDED
        case CancelledError() | GeneratorExit() | Cancelled():
            return Outcome.DEADLINE_EXCEEDED if is_late else Outcome.CANCELLED
        case _:
            return Outcome.FAILED
