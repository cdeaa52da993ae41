"""Who may pass: authentication and limits, before an endpoint sees the request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Authenticator, Principal
from gateway.context import RequestContext, context_of
from gateway.dialects.dialect import Dialect
from gateway.errors import ProblemError
from gateway.rate_limits import RequestLimiter


class Guard:
    """Lets known callers within their limits through."""

    def __init__(self, authenticator: Authenticator, limiter: RequestLimiter | None) -> None:
        self.authenticator = authenticator
        self._limiter = limiter

    def protect(self, endpoint: ASGIApp, dialect: Dialect) -> ASGIApp:
        """Puts the guard before an endpoint."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await self._admit(scope, dialect)
            await endpoint(scope, receive, send)

        return Endpoint(guarded)

    async def _admit(self, scope: Scope, dialect: Dialect) -> None:
        context = context_of(scope)
        authorization = context.headers.get("authorization")
        await self.admit(context, dialect, self.authenticator.authenticate(authorization))

    async def admit(
        self, context: RequestContext, dialect: Dialect, caller: tuple[Principal, str | None]
    ) -> None:
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
