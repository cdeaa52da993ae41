"""Who may pass: authentication and limits, before an endpoint sees the request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Authenticator
from gateway.context import context_of
from gateway.dialects.dialect import Dialect
from gateway.errors import ProblemError
from gateway.rate_limits import RequestLimiter


class Guard:
    """Lets known callers within their limits through."""

    def __init__(self, authenticator: Authenticator, limiter: RequestLimiter | None) -> None:
        self._authenticator = authenticator
        self._limiter = limiter

    def protect(self, endpoint: ASGIApp, dialect: Dialect) -> ASGIApp:
        """Puts the guard before an endpoint."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await self._admit(scope, dialect)
            await endpoint(scope, receive, send)

        return Endpoint(guarded)

    async def _admit(self, scope: Scope, dialect: Dialect) -> None:
        context = context_of(scope)
        context.principal, context.authorization = self._authenticator.authenticate(
            context.headers.get("authorization")
        )
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
