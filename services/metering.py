"""The port of metering: a request is admitted within its principal's limits, and what it used is
settled when it ends, also where it was cut short."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from policy.principals import Principal


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


class Meter(Protocol):
    """Admits requests and keeps account of them."""

    async def admit(self, work: Work) -> Metered:
        """Reserves what the work may use. Raises `RateLimited`."""
        ...
