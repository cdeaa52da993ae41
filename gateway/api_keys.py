"""Keys that come in `X-API-Key`, for the dialects that take them beside bearer tokens."""

from gateway.auth import Authenticator
from gateway.context import RequestContext, printable
from gateway.guard import Caller


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
