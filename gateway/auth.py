"""Who calls: the credentials of a request."""

import base64
import binascii
import logging

from gateway.errors import Problem, ProblemError
from gateway.settings import Settings
from gateway.settings_auth import jwt_of
from policy.credentials import Credentials
from policy.fed_keys import FedKeys, KeysUnknownError
from policy.principals import ANONYMOUS, Principal
from policy.token_store import TokenSources

_logger = logging.getLogger(__name__)


class Authenticator:
    """Tells whose a credential is."""

    def __init__(self, settings: Settings) -> None:
        """Reads the files of keys. Raises `TokenFileError` when one is broken."""
        # Without a service token there is nothing to ask ModelService for its keys with.
        self.keys = FedKeys() if settings.service_token else None
        self._credentials = credentials = Credentials(
            TokenSources(
                api_tokens=settings.api_tokens,
                api_key=settings.api.api_key,
                service_token=settings.service_token,
                admin_key_file=settings.admin_key_file,
                token_file=settings.token_file,
            ),
            self.keys,
            jwt_of(settings.auth),
        )
        self.required = settings.api.require_auth
        self.tokens = credentials.tokens
        self.sessions = credentials.sessions
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
        """Returns whose a secret is; None when it is unknown, or over.

        Raises:
            ProblemError: it may be good, and the keys to tell by are not known yet.
            KeysWantedError: newer keys of an identity provider are to be fetched first.
        """
        try:
            return self._credentials.identify(secret)
        except KeysUnknownError:
            raise keys_unknown() from None


def keys_unknown() -> ProblemError:
    """Makes the error for a credential that nobody can tell to be good or wrong yet."""
    message = "Keys can't be checked yet: who keeps them has not told which there are. Try again."
    return ProblemError(Problem("UNAVAILABLE", message, retry_after_s=1.0))


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
