"""Credentials as Gel's clients send them: user and password, or a bearer token."""

from typing import NamedTuple

from gateway.auth import Authenticator, password
from gateway.context import RequestContext, printable
from policy.principals import Principal

_DEFAULT_USERS = frozenset({"edgedb", "admin"})
"""What Gel's clients say when they were told no user."""


class _Claim(NamedTuple):
    """Who somebody says they are."""

    secret: str
    user: str | None
    """None says nothing."""


def caller_of(
    authenticator: Authenticator, context: RequestContext
) -> tuple[Principal, str | None]:
    """Returns the caller of a request, and the `authorization` that travels on to services.

    Raises:
        ProblemError: a credential is required, and there is none or it is wrong.
    """
    claim = _claim(context)
    principal = authenticator.identify(claim.secret) if claim else None
    if principal is not None and principal.gel_user and claim is not None:
        said = claim.user
        if said is not None and said != principal.gel_user:
            principal = None
    secret = claim.secret if claim else ""
    given = bool(context.headers.get("authorization"))
    return authenticator.admitted(principal, secret, given=given)


def _claim(context: RequestContext) -> _Claim | None:
    authorization = context.headers.get("authorization", "")
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        claim = _Claim(rest.strip(), _named(context))
    elif (said := password(authorization)) is not None:
        claim = _Claim(secret=said[1], user=said[0])
    else:
        return None
    return claim if claim and claim.secret and printable(claim.secret) else None


def _named(context: RequestContext) -> str | None:
    """A token tells whose it is; only a name that somebody chose is held against it."""
    for header in ("x-gel-user", "x-edgedb-user"):
        user = context.headers.get(header)
        if user and user not in _DEFAULT_USERS:
            return user
    return None
