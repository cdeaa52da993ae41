"""Credentials as botserver's clients send them: a bearer token, or a key in `X-API-Key`."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Authenticator
from gateway.context import RequestContext, context_of, printable
from gateway.errors import Problem, ProblemError
from gateway.guard import Caller, Endpoint

ADMINS = ("admin",)
MODEL_MANAGERS = ("admin", "model_manager")
TRAINERS = ("admin", "trainer")

_ABOVE_ALL = "superadmin"


def key_of(context: RequestContext) -> str | None:
    """The key that tells who calls; None where a bearer token does, or nothing."""
    scheme = context.headers.get("authorization", "").strip().partition(" ")[0]
    # Other schemes may be meant for a proxy on the way.
    if scheme.lower() == "bearer":
        return None
    return context.headers.get("x-api-key", "").strip() or None


def caller_of(authenticator: Authenticator, context: RequestContext) -> Caller:
    """Returns the caller of a request, and the `authorization` that travels on to services.

    Raises:
        ProblemError: a credential is required, and there is none or it is wrong.
    """
    key = key_of(context)
    if key is None:
        return authenticator.authenticate(context.headers.get("authorization"))
    principal = authenticator.identify(key) if printable(key) else None
    return authenticator.admitted(principal, key, given=True)


def only_for(roles: Collection[str], endpoint: ASGIApp) -> ASGIApp:
    """Lets callers through who have one of the roles."""
    allowed = frozenset((*roles, _ABOVE_ALL))

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if allowed.isdisjoint(context_of(scope).principal.roles):
            names = " or ".join(f"'{role}'" for role in sorted(roles))
            message = f"This needs the role {names}. Use a key that has it."
            raise ProblemError(Problem("PERMISSION_DENIED", message))
        await endpoint(scope, receive, send)

    return Endpoint(checked)
