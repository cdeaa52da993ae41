"""Knows the tokens and tells whose a call's credential is."""

import hmac
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from services.errors import InvalidCredentials, MissingCredentials
from services.rpc.keys import TokenEntry, TokenFileError, digest, read_entries
from services.rpc.roles import ANONYMOUS, EVERY_TENANT, Principal, Role
from services.rpc.session_tokens import PREFIX, SessionTokens

_logger = logging.getLogger(__name__)

Metadata = Mapping[str, str] | Iterable[tuple[str, str | bytes]]
"""What came with a call: keys in lower case."""

_RECHECK_S = 1.0


class Authenticator(Protocol):
    """Tells who calls."""

    def authenticate(self, metadata: Metadata) -> Principal:
        """Returns who sent the metadata. Raises `MissingCredentials` or `InvalidCredentials`."""
        ...


@dataclass(frozen=True)
class TokenSources:
    """Where tokens come from."""

    api_tokens: tuple[str, ...] = field(default=(), repr=False)
    """Tokens of users, as `API_TOKENS` lists them. Blank ones don't count."""
    api_key: str = field(default="", repr=False)
    """One more token of a user."""
    service_token: str = field(default="", repr=False)
    """Token of calls between services."""
    admin_key_file: Path | None = None
    """Holds the admin's token as plain text. Read again when it changes."""
    token_file: Path | None = None
    """Holds tokens as SHA-256 with roles. Read again when it changes."""
    require_auth: bool = True
    """Whether calls without a credential are turned away; else they come from `anonymous`, a
    user."""


@dataclass(slots=True)
class _Known:
    sha256: str
    principal: Principal
    expires_at: float | None = None


class TokenStore:
    """The `Authenticator` over tokens of the settings and of files."""

    def __init__(self, sources: TokenSources) -> None:
        self._require_auth = sources.require_auth
        self._fixed = {known.sha256: known for known in _fixed_tokens(sources)}
        self._files = [
            _WatchedFile(path, read)
            for path, read in (
                (sources.admin_key_file, _read_admin_key),
                (sources.token_file, _read_token_file),
            )
            if path is not None
        ]
        self._checked = time.monotonic()
        self._sessions = SessionTokens(sources.service_token)
        self._tokens: dict[str, _Known] = {}
        self._by_id: dict[str, list[_Known]] = {}
        for file in self._files:
            file.load()
        self._merge()
        if self._require_auth and not self._tokens:
            _logger.error(
                "No token is known, and calls need one: all will be turned away. "
                "Set API_TOKENS, or make a key with `penstock keys create`."
            )

    def authenticate(self, metadata: Metadata) -> Principal:
        """Returns whose credential the metadata holds. Raises `MissingCredentials` or
        `InvalidCredentials`."""
        token = _credential(metadata)
        if token is None:
            if self._require_auth:
                raise MissingCredentials(
                    "No API key came with the call. Send it as `authorization: Bearer <key>`."
                )
            return ANONYMOUS
        if self._files and time.monotonic() - self._checked >= _RECHECK_S:
            self._refresh()
        known = self._find(token)
        if known is None and self._files:  # it may have been made a moment ago
            self._refresh()
            known = self._find(token)
        if known is None or (known.expires_at is not None and known.expires_at <= time.time()):
            raise InvalidCredentials("The API key is unknown, revoked or expired. Check the key.")
        return known.principal

    def _find(self, token: str) -> "_Known | None":
        if token.startswith(PREFIX):
            return self._sessions.find(token, lambda id_: self._by_id.get(id_, ()))
        sha256 = digest(token)
        known = self._tokens.get(sha256)
        return known if known is not None and hmac.compare_digest(known.sha256, sha256) else None

    def _refresh(self) -> None:
        self._checked = time.monotonic()
        changed = False
        for file in self._files:
            try:
                changed |= file.load()
            except TokenFileError as error:
                # The tokens read last stay good: a slip of the pen must not lock everybody out.
                _logger.error("%s. The tokens read before stay in force.", error)
        if changed:
            self._merge()

    def _merge(self) -> None:
        tokens = dict(self._fixed)
        for file in reversed(self._files):
            tokens.update(file.tokens)
        self._tokens = tokens
        self._by_id = {}
        for known in tokens.values():
            self._by_id.setdefault(known.principal.id, []).append(known)


class _WatchedFile:
    """A file of tokens, read again when it changes."""

    def __init__(self, path: Path, read: "_Reader") -> None:
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self.tokens: dict[str, _Known] = {}

    def load(self) -> bool:
        """Reads the file if it changed; tells whether it did. A missing file has no tokens."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            raise TokenFileError(f"{self._path} can't be read: {error.strerror}") from error
        if stamp == self._stamp:
            return False
        # Remembered first: a broken file is complained of once, not every second.
        self._stamp = stamp
        self.tokens = {} if stamp is None else {k.sha256: k for k in self._read(self._path)}
        return True


class _Reader(Protocol):
    def __call__(self, path: Path, /) -> Iterable[_Known]: ...


def _read_admin_key(path: Path) -> Iterator[_Known]:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path} can't be read as text") from error
    if key:
        admin = _principal("admin-key", "admin key", Role.ADMIN, tenants=(EVERY_TENANT,))
        yield _Known(digest(key), admin)


def _read_token_file(path: Path) -> Iterator[_Known]:
    for entry in read_entries(path):
        principal = _principal(entry.id, entry.name, *entry.roles, tenants=entry.tenants)
        yield _Known(entry.sha256, principal, _expiry(entry))


def _expiry(entry: TokenEntry) -> float | None:
    if not entry.expires_at:
        return None
    moment = datetime.fromisoformat(entry.expires_at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _fixed_tokens(sources: TokenSources) -> Iterator[_Known]:
    for token in (t.strip() for t in sources.api_tokens if t.strip()):
        known = digest(token)
        # Not by its place: what belongs to a token stays its own when others come or go.
        yield _Known(known, _principal(f"api-token-{known[:8]}", "API_TOKENS", Role.USER))
    if sources.api_key:
        yield _Known(digest(sources.api_key), _principal("api-key", "[api] api_key", Role.USER))
    if sources.service_token:
        service = _principal("service", "service", Role.SERVICE, tenants=(EVERY_TENANT,))
        yield _Known(digest(sources.service_token), service)


def _principal(id_: str, name: str, *roles: Role, tenants: tuple[str, ...] = ()) -> Principal:
    return Principal(id_, name, frozenset(roles), tenants=tenants)


def _credential(metadata: Metadata) -> str | None:
    """Returns the token of `authorization: Bearer` or of `x-api-key`."""
    # Which of the two it is, type checkers lose track of here.
    pairs = cast("dict[str, object]", metadata if isinstance(metadata, dict) else dict(metadata))
    header = pairs.get("authorization")
    if isinstance(header, str) and header:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise InvalidCredentials("Send the API key as `authorization: Bearer <key>`.")
        return token.strip()
    key = pairs.get("x-api-key")
    return key.strip() or None if isinstance(key, str) else None
