"""Who calls: the credentials of a request."""

import base64
import binascii
import logging
import time

from gateway.errors import Problem, ProblemError
from gateway.session_tokens import PREFIX, SessionTokens
from gateway.settings import Settings
from gateway.tokens import ANONYMOUS, Principal, Token, TokenStore, digest

__all__ = ["ANONYMOUS", "Authenticator", "Principal", "password", "wrong_credentials"]

_logger = logging.getLogger(__name__)


class Authenticator:
    """Tells whose a credential is."""

    def __init__(self, settings: Settings) -> None:
        self.required = settings.api.require_auth
        self.tokens = TokenStore(settings)
        self.sessions = SessionTokens(settings.service_token)
        if self.required and self.tokens.empty:
            _logger.error(
                "No token is configured: every request but /health is answered 401. "
                "Set API_TOKENS, or make a key with `penstock keys create`."
            )

    def authenticate(self, authorization: str | None) -> tuple[Principal, str | None]:
        """Returns the principal, and the `authorization` that travels on to services.

        Raises:
            ProblemError: a credential is required, and there is none or it is wrong.
        """
        secret = _bearer(authorization)
        principal = self.identify(secret) if secret else None
        return self.admitted(principal, secret or "", given=bool(authorization))

    def admitted(
        self, principal: Principal | None, secret: str, *, given: bool
    ) -> tuple[Principal, str | None]:
        """Returns what `authenticate` does, for a credential that was looked up already.

        Raises:
            ProblemError: a credential is required, and there is none or it is wrong.
        """
        if principal is not None:
            return principal, f"Bearer {secret}"
        if not self.required:
            # SDKs insist on sending some key; where none is needed, a made-up one will do.
            return ANONYMOUS, None
        if not given:
            raise ProblemError(
                Problem(
                    "MISSING_CREDENTIALS",
                    "You didn't provide an API key. Send it in the Authorization header: "
                    "'Authorization: Bearer YOUR_KEY'.",
                )
            )
        raise wrong_credentials()

    def identify(self, secret: str) -> Principal | None:
        """Returns whose a token is; None when it is unknown, or over."""
        if secret.startswith(PREFIX):
            token = self.sessions.find(secret, self.tokens.of_id)
        else:
            token = self.tokens.find(digest(secret))
        return None if token is None or expired(token) else token.principal


def expired(token: Token) -> bool:
    """Tells whether a token's time is over."""
    end = token.principal.expires_at
    return end is not None and end <= time.time()


def wrong_credentials() -> ProblemError:
    """Makes the error for a credential that is nobody's."""
    message = "Incorrect API key provided. Check it, or make one with `penstock keys create`."
    return ProblemError(Problem("INVALID_CREDENTIALS", message))


def password(authorization: str | None) -> tuple[str, str] | None:
    """Returns user and password of a `Basic` header; None when it is none, or broken."""
    scheme, _, text = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, secret) if colon else None


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable():
        return None
    return token
