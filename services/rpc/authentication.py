"""Tells whose a call's credential is."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from policy.credentials import Credentials
from policy.fed_keys import FedKeys, KeysUnknownError
from policy.jwks import KeysWantedError
from policy.oidc import JwtVerifier
from policy.principals import ANONYMOUS, Principal
from policy.token_store import TokenSources
from policy.workloads import Workloads
from services.errors import InvalidCredentials, MissingCredentials, Unavailable
from services.rpc.metadata import DIALECT_KEY

_OF_PROXIES = ("x-forwarded-", "x-envoy-")
_logger = logging.getLogger(__name__)

Metadata = Mapping[str, str] | Iterable[tuple[str, str | bytes]]
"""What came with a call: keys in lower case."""

SpiffeId = Callable[[], str]
"""Tells the ID in the caller's certificate; empty for none."""


def _nobody() -> str:
    return ""


class Authenticator(Protocol):
    """Tells who calls."""

    def authenticate(self, metadata: Metadata, spiffe_id: SpiffeId = _nobody) -> Principal:
        """Returns who sent the metadata, over a connection whose certificate has this ID.

        Raises:
            MissingCredentials: nothing says who.
            InvalidCredentials: what does is wrong.
            Unavailable: nobody knows.
            KeysWantedError: await its `refresh`, and ask again.
        """
        ...


async def authenticated(
    authenticator: Authenticator, metadata: Metadata, spiffe_id: SpiffeId = _nobody
) -> Principal:
    """Returns who calls, and waits for newer keys of an identity provider where that takes any."""
    try:
        return authenticator.authenticate(metadata, spiffe_id)
    except KeysWantedError as wanted:
        await wanted.refresh()
    try:
        return authenticator.authenticate(metadata, spiffe_id)
    except KeysWantedError:  # they grew old meanwhile: once is enough
        raise _unknown_yet() from None


@dataclass(frozen=True, slots=True)
class Identities:
    """Who is somebody beside those with keys."""

    jwt: JwtVerifier | None = None
    """Tells signed-in users."""
    workloads: Workloads = field(default_factory=Workloads)
    """Whom client certificates stand for."""
    require_auth: bool = True
    """Whether calls without a credential are turned away; else they come from `anonymous`, a
    user."""


class CallAuthenticator:
    """The `Authenticator` over every credential that the policy knows."""

    def __init__(
        self,
        sources: TokenSources,
        keys: FedKeys | None = None,
        more: Identities | None = None,
    ) -> None:
        """Takes where tokens come from, the keys of a feed where there is one, and who else is
        somebody."""
        self._more = more or Identities()
        self._credentials = Credentials(sources, keys, self._more.jwt)
        others = keys is not None or self._more.jwt is not None or bool(self._more.workloads)
        if self._more.require_auth and not others and self._credentials.tokens.empty:
            _logger.error(
                "No token is known, and calls need one: all will be turned away. "
                "Set API_TOKENS, or make a key with `penstock keys create`."
            )

    def authenticate(self, metadata: Metadata, spiffe_id: SpiffeId = _nobody) -> Principal:
        """Returns whose credential the metadata holds, or else whom the certificate stands for.

        A credential goes before the certificate: who brings somebody's key acts for them.
        """
        # Which of the two it is, type checkers lose track of here.
        pairs = cast(
            "dict[str, object]", metadata if isinstance(metadata, dict) else dict(metadata)
        )
        secret = _credential(pairs)
        if secret is None:
            workload = None
            if self._more.workloads and not _is_passed_on(pairs):
                workload = self._more.workloads.find(spiffe_id())
            if workload is not None:
                return workload
            if self._more.require_auth:
                raise MissingCredentials(
                    "No API key came with the call. Send it as `authorization: Bearer <key>`."
                )
            return ANONYMOUS
        try:
            principal = self._credentials.identify(secret)
        except KeysUnknownError:
            raise _unknown_yet() from None
        if principal is None:
            raise InvalidCredentials("The API key is unknown, revoked or expired. Check the key.")
        return principal


def _is_passed_on(pairs: Mapping[str, object]) -> bool:
    """Tells whether an edge or a proxy brings the call: then the certificate is theirs, and says
    nothing of who asked them."""
    return any(name == DIALECT_KEY or name.startswith(_OF_PROXIES) for name in pairs)


def _unknown_yet() -> Unavailable:
    return Unavailable(
        "Keys can't be checked yet: who keeps them has not told which there are. Try again.",
        retry_after_s=1,
    )


def _credential(pairs: Mapping[str, object]) -> str | None:
    """Returns the token of `authorization: Bearer` or of `x-api-key`."""
    header = pairs.get("authorization")
    if isinstance(header, str) and header:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise InvalidCredentials("Send the API key as `authorization: Bearer <key>`.")
        return token.strip()
    key = pairs.get("x-api-key")
    return key.strip() or None if isinstance(key, str) else None
