"""Who may pass: authentication and limits, before an endpoint sees the request."""

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Authenticator, keys_unknown
from gateway.context import RequestContext, context_of
from gateway.dialects.dialect import Dialect
from gateway.errors import invalid
from gateway.rate_limits import RefusedError, RequestLimits
from policy.jwks import KeysWantedError
from policy.principals import Principal

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

Caller = tuple[Principal, str | None]
"""Who calls, and the `authorization` that travels on to services."""

Identify = Callable[[Authenticator, RequestContext], Caller]
"""Finds out who calls, or raises a ProblemError."""


def bearer(authenticator: Authenticator, context: RequestContext) -> Caller:
    """Takes bearer tokens only."""
    return authenticator.authenticate(context.headers.get("authorization"))


async def identified(
    identify: Identify, authenticator: Authenticator, context: RequestContext
) -> Caller:
    """Finds out who calls, and waits for newer keys of an identity provider where that takes any.

    Raises:
        ProblemError: nobody may call so.
    """
    for _ in range(2):
        try:
            return identify(authenticator, context)
        except KeysWantedError as wanted:
            await wanted.refresh()
    raise keys_unknown()


class Guard:
    """Lets known callers within their limits through."""

    def __init__(self, authenticator: Authenticator, limits: RequestLimits) -> None:
        self.authenticator = authenticator
        self._limits = limits

    def protect(self, endpoint: ASGIApp, dialect: Dialect, identify: Identify = bearer) -> ASGIApp:
        """Puts the guard before an endpoint."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            context = context_of(scope)
            caller = await identified(identify, self.authenticator, context)
            await self.admit(context, dialect, caller)
            await endpoint(scope, receive, send)

        return Endpoint(guarded)

    async def admit(self, context: RequestContext, dialect: Dialect, caller: Caller) -> None:
        """Counts a request of a caller, and notes who it is and how long it wants to wait.

        Raises:
            ProblemError: it is one too many, or its time is none.
        """
        context.principal, context.authorization = caller
        context.dialect = dialect.name
        context.time_limit_s = _time_limit(context.headers.get("x-request-timeout"))
        try:
            allowance = await self._limits.admit(context)
        except RefusedError as error:
            if error.allowance is not None:
                context.response_headers.extend(dialect.allowance_headers(error.allowance))
            raise
        if allowance is not None:
            context.response_headers.extend(dialect.allowance_headers(allowance))


def _time_limit(given: str | None) -> float | None:
    if given is None:
        return None
    seconds = float(given) if _SECONDS.fullmatch(given) else 0.0
    if seconds <= 0:
        raise invalid(
            "The header 'X-Request-Timeout' must be a number of seconds above 0, such as 2.5, not "
            f"{given[:32]!r}.",
            "X-Request-Timeout",
        )
    return seconds


class Endpoint:
    """An ASGI application as an object: Starlette takes plain functions for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._app(scope, receive, send)
