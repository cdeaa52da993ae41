"""Credentials as Gel's clients send them: user and password, or a bearer token."""

import base64
import binascii
from typing import NamedTuple

from gateway.auth import Authenticator, Principal
from gateway.context import RequestContext, printable

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
    scheme, _, rest = context.headers.get("authorization", "").strip().partition(" ")
    match scheme.lower():
        case "bearer":
            claim = _Claim(rest.strip(), _named(context))
        case "basic":
            claim = _password(rest.strip())
        case _:
            return None
    return claim if claim and claim.secret and printable(claim.secret) else None


def _named(context: RequestContext) -> str | None:
    """A token tells whose it is; only a name that somebody chose is held against it."""
    for header in ("x-gel-user", "x-edgedb-user"):
        user = context.headers.get(header)
        if user and user not in _DEFAULT_USERS:
            return user
    return None


def _password(text: str) -> _Claim | None:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return _Claim(password, user) if colon else None
