"""What the edge itself needs of a dialect: its errors and its headers."""

from typing import Protocol

from gateway.context import RequestContext
from gateway.errors import Problem
from gateway.rate_limits import Allowance

Headers = list[tuple[bytes, bytes]]


class Dialect(Protocol):
    """One foreign REST shape."""

    def owns(self, path: str) -> bool:
        """Tells whether a path belongs to it."""
        ...

    def envelope(self, problem: Problem) -> bytes:
        """Renders a problem as its JSON body."""
        ...

    def headers(self, context: RequestContext) -> Headers:
        """Headers of every answer on its paths."""
        ...

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Headers that tell what the caller may still do."""
        ...
