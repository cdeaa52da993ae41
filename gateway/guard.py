"""Who may pass: authentication and limits, before an endpoint sees the request."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Authenticator, Principal
from gateway.context import RequestContext, context_of
from gateway.dialects.dialect import Dialect
from gateway.errors import ProblemError
from gateway.rate_limits import RequestLimiter

Caller = tuple[Principal, str | None]
"""Who calls, and the `authorization` that travels on to services."""

Identify = Callable[[Authenticator, RequestContext], Caller]
"""Finds out who calls, or raises a ProblemError."""


def bearer(authenticator: Authenticator, context: RequestContext) -> Caller:
    """Takes bearer tokens only."""
    return authenticator.authenticate(context.headers.get("authorization"))


class Guard:
    """Lets known callers within their limits through."""

    def __init__(self, authenticator: Authenticator, limiter: RequestLimiter | None) -> None:
        self.authenticator = authenticator
        self._limiter = limiter

    def protect(self, endpoint: ASGIApp, dialect: Dialect, identify: Identify = bearer) -> ASGIApp:
        """Puts the guard before an endpoint."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            context = context_of(scope)
            await self.admit(context, dialect, identify(self.authenticator, context))
            await endpoint(scope, receive, send)

        return Endpoint(guarded)

    async def admit(self, context: RequestContext, dialect: Dialect, caller: Caller) -> None:
        """Counts a request of a caller, and notes who it is.

        Raises:
            ProblemError: it is one too many.
        """
        context.principal, context.authorization = caller
        if self._limiter is not None:
            allowance, problem = await self._limiter.admit(context.principal)
            context.response_headers.extend(dialect.allowance_headers(allowance))
            if problem is not None:
                raise ProblemError(problem)


class Endpoint:
    """An ASGI application as an object: Starlette takes plain functions for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._app(scope, receive, send)
