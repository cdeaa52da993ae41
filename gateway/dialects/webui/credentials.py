"""Credentials as WebUI clients send them: a bearer token, or a token as a password."""

from gateway.auth import Authenticator, password
from gateway.context import RequestContext, printable
from gateway.guard import Caller


def caller_of(authenticator: Authenticator, context: RequestContext) -> Caller:
    """Returns the caller of a request, and the `authorization` that travels on to services.

    With `Basic`, the password is the token; the user may be anything.

    Raises:
        ProblemError: a credential is required, and there is none or it is wrong.
    """
    authorization = context.headers.get("authorization")
    said = password(authorization)
    if said is None:
        return authenticator.authenticate(authorization)
    secret = said[1]
    principal = authenticator.identify(secret) if secret and printable(secret) else None
    return authenticator.admitted(principal, secret, given=True)
