"""Tells whose a secret is: a token, or what stands for one."""

from policy.fed_keys import FedKeys, KeysUnknownError
from policy.key_secrets import PREFIX as KEY_PREFIX
from policy.key_secrets import digest
from policy.oidc import PREFIX as SIGNED_IN
from policy.oidc import JwtVerifier
from policy.principals import Principal
from policy.session_tokens import PREFIX as SESSION_PREFIX
from policy.session_tokens import SessionTokens
from policy.token_store import TokenSources, TokenStore


class Credentials:
    """Every credential that a process takes."""

    def __init__(
        self,
        sources: TokenSources,
        fed: FedKeys | None = None,
        jwt: JwtVerifier | None = None,
    ) -> None:
        """Takes where tokens come from, the keys of a feed where there is one, and what tells whose
        a signed token of an identity provider is.

        Reads the files. Raises `TokenFileError` when one is broken.
        """
        self.tokens = TokenStore(sources, *([] if fed is None else [fed]))
        self._fed = fed
        self._jwt = jwt
        self.sessions = SessionTokens(sources.service_token)

    def identify(self, secret: str) -> Principal | None:
        """Returns whose a secret is; None when it is unknown, or over.

        Raises:
            KeysUnknownError: it may be good, and the keys to tell by were never there.
            KeysWantedError: newer keys of an identity provider are to be fetched first.
        """
        if secret.startswith(SESSION_PREFIX):
            token = self.sessions.find(secret, self.tokens.of_id)
            if token is not None and token.principal.id.startswith(SIGNED_IN) and self._jwt is None:
                return None  # nobody signs in here any more
        else:
            token = self.tokens.find(digest(secret))
            if token is None and self._jwt is not None and secret.count(".") == 2:
                return self._signed_in(self._jwt, secret)
        unknown = self._fed is not None and not self._fed.known
        if token is None and unknown and secret.startswith((KEY_PREFIX, SESSION_PREFIX)):
            raise KeysUnknownError
        return None if token is None or token.over else token.principal

    def _signed_in(self, jwt: JwtVerifier, secret: str) -> Principal | None:
        principal = jwt.verify(secret)
        if principal is None and not jwt.known:
            raise KeysUnknownError
        return principal
