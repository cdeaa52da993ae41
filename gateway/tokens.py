"""The tokens that the edge knows, and where they come from.

The services verify the credential again; this is the edge's own copy of the rule.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from gateway.scram import Verifier, parse_verifier
from gateway.settings import Settings

_logger = logging.getLogger(__name__)

DEFAULT_TENANT = "default"
"""The tenant of those who have no other."""

EVERY_TENANT = "*"
"""Stands for all tenants."""


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
    tenants: tuple[str, ...] = (DEFAULT_TENANT,)
    """Tenants that it reaches; `*` is every one."""
    gel_user: str = ""
    """The one name that Gel's clients may give with it. Empty: any."""

    def may_enter(self, tenant: str) -> bool:
        """Tells whether what belongs to a tenant is the principal's to see."""
        return tenant in self.tenants or EVERY_TENANT in self.tenants


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({"user"}))
"""Who calls without a credential where none is required."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the edge knows it."""

    sha256: str
    """Its SHA-256, in hex."""
    principal: Principal
    secret: str = field(default="", repr=False)
    """The token itself, where it lies in plain text and is a person's."""
    verifier: Verifier | None = field(default=None, repr=False)
    """For SCRAM, where it was made for a user of Gel."""


class Book:
    """Tokens of one source, by what they are looked up by."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self.by_sha256 = {token.sha256: token for token in tokens}
        self.by_id: dict[str, list[Token]] = {}
        self.by_gel_user: dict[str, list[Token]] = {}
        tenants: set[str] = set()
        for token in self.by_sha256.values():
            principal = token.principal
            self.by_id.setdefault(principal.id, []).append(token)
            tenants.update(principal.tenants)
            if principal.gel_user:
                self.by_gel_user.setdefault(principal.gel_user, []).append(token)
        self.tenants = frozenset(tenants - {EVERY_TENANT})


class TokenStore:
    """Tokens of the settings and of files."""

    def __init__(self, settings: Settings) -> None:
        self._fixed = Book(_fixed(settings))
        self._files = (
            _TokenFile(settings.admin_key_file, _admin_key),
            _TokenFile(settings.token_file, _hashed_tokens),
        )
        for file in self._files:
            file.book()  # what is good now stays in force when a file is broken later

    @property
    def empty(self) -> bool:
        """Whether no token is known."""
        return not any(book.by_sha256 for book in self._books())

    def find(self, sha256: str) -> Token | None:
        """Returns the token with this SHA-256."""
        # Looked up by digest: the time that takes tells nothing of any token.
        for book in self._books():
            token = book.by_sha256.get(sha256)
            if token is not None:
                return token
        return None

    def of_id(self, token_id: str) -> Sequence[Token]:
        """Returns the tokens with this ID: one, unless a file was written by hand."""
        return [token for book in self._books() for token in book.by_id.get(token_id, ())]

    def of_gel_user(self, user: str) -> Sequence[Token]:
        """Returns the tokens that were made for a user of Gel."""
        return [token for book in self._books() for token in book.by_gel_user.get(user, ())]

    def in_plain_text(self) -> Sequence[Token]:
        """Returns the tokens whose secret is known."""
        return [t for book in self._books() for t in book.by_sha256.values() if t.secret]

    def names_tenant(self, tenant: str) -> bool:
        """Tells whether a token was made for a tenant."""
        return any(tenant in book.tenants for book in self._books())

    def _books(self) -> Iterator[Book]:
        """What costs nothing first: files are looked at only for tokens that are not fixed."""
        yield self._fixed
        for file in self._files:
            yield file.book()


class _TokenFile:
    """A file of tokens, read again when it changes."""

    def __init__(self, path: Path, read: Callable[[Path], Iterable[Token]]) -> None:
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self._book = Book()

    def book(self) -> Book:
        """What the file holds now. A broken file leaves what it held before."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            if self._stamp is not None:
                self._book, self._stamp = Book(), None
            return self._book
        except OSError as error:
            _logger.error("%s can't be read (%s); its tokens stay as they were", self._path, error)
            return self._book
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._book = Book(self._read(self._path))
            except (OSError, ValueError) as error:
                _logger.error("%s is broken (%s); its tokens stay as they were", self._path, error)
        return self._book


def digest(secret: str) -> str:
    """Returns what a token is looked up by."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _fixed(settings: Settings) -> Iterable[Token]:
    user = frozenset({"user"})
    for secret in settings.api_tokens:
        known = digest(secret)
        yield Token(known, Principal(f"api-token-{known[:8]}", "API_TOKENS", user), secret)
    if secret := settings.api.api_key:
        yield Token(digest(secret), Principal("api-key", "[api] api_key", user), secret)
    if secret := settings.service_token:
        roles = frozenset({"service"})
        principal = Principal("service", "service", roles, tenants=(EVERY_TENANT,))
        yield Token(digest(secret), principal)


def _admin_key(path: Path) -> Iterable[Token]:
    key = path.read_text("utf-8").strip()
    if key:
        roles = frozenset({"admin"})
        principal = Principal("admin-key", "admin key", roles, tenants=(EVERY_TENANT,))
        yield Token(digest(key), principal, key)


def _hashed_tokens(path: Path) -> Iterable[Token]:
    text = path.read_text("utf-8")
    document: Any = json.loads(text) if text.strip() else {"tokens": []}
    items: Any = (
        cast("dict[str, Any]", document).get("tokens") if isinstance(document, dict) else None
    )
    if not isinstance(items, list):
        raise ValueError('it must look like {"tokens": [...]}')
    for item in cast("list[Any]", items):
        if not isinstance(item, dict):
            raise ValueError("a token must be an object")
        yield _hashed_token(cast("dict[str, Any]", item))


def _hashed_token(entry: dict[str, Any]) -> Token:
    sha256, roles = entry.get("sha256"), entry.get("roles")
    if not isinstance(sha256, str) or len(sha256) != 64 or not isinstance(roles, list):
        raise ValueError("a token needs `sha256` (64 hex digits) and `roles` (a list)")
    tenants: object = entry.get("tenants") or [DEFAULT_TENANT]
    if not isinstance(tenants, list):
        raise ValueError("`tenants` of a token must be a list")
    user, verifier = entry.get("gel_user") or "", entry.get("scram")
    if not isinstance(user, str):
        raise ValueError("`gel_user` of a token must be text")
    principal = Principal(
        str(entry.get("id") or f"key-{sha256[:8]}"),
        str(entry.get("name") or ""),
        frozenset(str(role) for role in cast("list[object]", roles)),
        _expiry(entry.get("expires_at")),
        tuple(str(tenant) for tenant in cast("list[object]", tenants)),
        user,
    )
    parsed = parse_verifier(str(verifier)) if user and verifier else None
    return Token(sha256.lower(), principal, verifier=parsed)


def _expiry(value: object) -> float | None:
    if not isinstance(value, str) or not value:
        return None
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
