"""Who calls: tokens, their sources and the credentials of a request.

The services verify the credential again; this is the edge's own copy of the rule.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from gateway.errors import Problem, ProblemError
from gateway.settings import Settings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token stands for."""

    id: str
    """Identifies the token; safe to log."""
    name: str
    """Name for people."""
    roles: frozenset[str]
    """What it may do."""
    expires_at: float | None = None
    """Unix time; None is never."""


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({"user"}))
"""Who calls without a credential where none is required."""

Tokens = dict[str, Principal]
"""Principals by the SHA-256 of their tokens, in hex."""


class Authenticator:
    """Tells whose a credential is."""

    def __init__(self, settings: Settings) -> None:
        self.required = settings.api.require_auth
        self._fixed = dict(_fixed(settings))
        self._files = (
            _TokenFile(settings.admin_key_file, _admin_key),
            _TokenFile(settings.token_file, _hashed_tokens),
        )
        known = [self._fixed, *(file.tokens() for file in self._files)]
        if self.required and not any(known):
            _logger.error(
                "No token is configured: every request but /health is answered 401. "
                "Set API_TOKENS, or make a key with `penstock keys create`."
            )

    def authenticate(self, authorization: str | None) -> tuple[Principal, str | None]:
        """Returns the principal, and the `authorization` that travels on to services.

        Raises:
            ProblemError: a credential is required, and there is none or it is wrong.
        """
        token = _bearer(authorization)
        principal = self._find(token) if token else None
        if principal is not None:
            return principal, f"Bearer {token}"
        if not self.required:
            # SDKs insist on sending some key; where none is needed, a made-up one will do.
            return ANONYMOUS, None
        if not authorization:
            raise ProblemError(
                Problem(
                    "MISSING_CREDENTIALS",
                    "You didn't provide an API key. Send it in the Authorization header: "
                    "'Authorization: Bearer YOUR_KEY'.",
                )
            )
        raise ProblemError(
            Problem(
                "INVALID_CREDENTIALS",
                "Incorrect API key provided. Check it, or make one with `penstock keys create`.",
            )
        )

    def _find(self, token: str) -> Principal | None:
        # Looked up by digest: the time that takes tells nothing of any token.
        sha256 = _digest(token)
        for tokens in self._sources():
            principal = tokens.get(sha256)
            if principal is not None:
                expired = principal.expires_at is not None and principal.expires_at <= time.time()
                return None if expired else principal
        return None

    def _sources(self) -> Iterable[Tokens]:
        """What costs nothing first: files are looked at only for tokens that are not fixed."""
        yield self._fixed
        for file in self._files:
            yield file.tokens()


class _TokenFile:
    """A file of tokens, read again when it changes."""

    def __init__(self, path: Path, read: Callable[[Path], Tokens]) -> None:
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: Tokens = {}

    def tokens(self) -> Tokens:
        """What the file holds now. A broken file leaves what it held before."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            self._tokens, self._stamp = {}, None
            return self._tokens
        except OSError as error:
            _logger.error("%s can't be read (%s); its tokens stay as they were", self._path, error)
            return self._tokens
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._tokens = self._read(self._path)
            except (OSError, ValueError) as error:
                _logger.error("%s is broken (%s); its tokens stay as they were", self._path, error)
        return self._tokens


def _fixed(settings: Settings) -> Iterable[tuple[str, Principal]]:
    user = frozenset({"user"})
    for number, token in enumerate(settings.api_tokens, start=1):
        yield _digest(token), Principal(f"api-token-{number}", "API_TOKENS", user)
    if settings.api.api_key:
        yield _digest(settings.api.api_key), Principal("api-key", "[api] api_key", user)
    if settings.service_token:
        roles = frozenset({"service"})
        yield _digest(settings.service_token), Principal("service", "service", roles)


def _admin_key(path: Path) -> Tokens:
    key = path.read_text("utf-8").strip()
    if not key:
        return {}
    return {_digest(key): Principal("admin-key", "admin key", frozenset({"admin"}))}


def _hashed_tokens(path: Path) -> Tokens:
    text = path.read_text("utf-8")
    document: Any = json.loads(text) if text.strip() else {"tokens": []}
    items: Any = (
        cast("dict[str, Any]", document).get("tokens") if isinstance(document, dict) else None
    )
    if not isinstance(items, list):
        raise ValueError('it must look like {"tokens": [...]}')
    tokens: Tokens = {}
    for item in cast("list[Any]", items):
        if not isinstance(item, dict):
            raise ValueError("a token must be an object")
        entry = cast("dict[str, Any]", item)
        sha256, roles = entry.get("sha256"), entry.get("roles")
        if not isinstance(sha256, str) or len(sha256) != 64 or not isinstance(roles, list):
            raise ValueError("a token needs `sha256` (64 hex digits) and `roles` (a list)")
        tokens[sha256.lower()] = Principal(
            str(entry.get("id") or f"key-{sha256[:8]}"),
            str(entry.get("name") or ""),
            frozenset(str(role) for role in cast("list[object]", roles)),
            _expiry(entry.get("expires_at")),
        )
    return tokens


def _expiry(value: object) -> float | None:
    if not isinstance(value, str) or not value:
        return None
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable():
        return None
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
