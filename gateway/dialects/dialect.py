"""What the edge itself needs of a dialect: its errors and its headers."""

import time
from typing import NamedTuple, Protocol

from gateway.context import RequestContext
from gateway.errors import Problem
from gateway.rate_limits import Allowance

Headers = list[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """The answer to a request that failed."""

    status: int
    headers: Headers
    """With the type of the body, and without its length."""
    body: bytes


class Dialect(Protocol):
    """One foreign REST shape."""

    name: str
    """What services know it by, in the account of what requests used: lower-case letters."""

    def owns(self, path: str) -> bool:
        """Tells whether a path belongs to it."""
        ...

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders a problem as the answer to a request."""
        ...

    def headers(self, context: RequestContext) -> Headers:
        """Headers of every answer on its paths."""
        ...

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Headers that tell what the caller may still do."""
        ...


def plain_allowance(allowance: Allowance) -> Headers:
    """What the caller may still do, as most dialects tell it; the time is that of the clock."""
    return [
        (b"x-ratelimit-limit", b"%d" % allowance.limit),
        (b"x-ratelimit-remaining", b"%d" % allowance.remaining),
        (b"x-ratelimit-reset", b"%d" % round(time.time() + allowance.reset_s)),
    ]
