"""Every token that a process knows: of its settings, of files, and of books that others keep."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from policy.key_secrets import digest
from policy.principals import EVERY_TENANT, Principal, Role
from policy.token_entries import TokenFileError
from policy.token_file import read_admin_key, read_entries
from policy.tokens import Book, Token

_logger = logging.getLogger(__name__)

_RECHECK_S = 1.0


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


class TokenStore:
    """Tokens of the settings, of files, and of further books."""

    def __init__(self, sources: TokenSources, *books: Book) -> None:
        """Reads the files. Raises `TokenFileError` when one is broken now; one that breaks later
        leaves what it held before.

        The books stand before the settings, as files do; they may change at any time.
        """
        self._files = [
            _WatchedFile(path, read)
            for path, read in (
                (sources.admin_key_file, _admin_key),
                (sources.token_file, _file_tokens),
            )
            if path is not None
        ]
        self._more = books
        self._fixed = Book(_fixed(sources))
        self._checked = time.monotonic()
        for file in self._files:
            file.load()

    @property
    def empty(self) -> bool:
        """Whether no token is known."""
        return not any(map(len, self._books()))

    def find(self, sha256: str) -> Token | None:
        """Returns the token with this SHA-256."""
        if time.monotonic() - self._checked >= _RECHECK_S:
            self._refresh()
        token = self._look_up(sha256)
        if token is None and self._files:  # it may have been made a moment ago
            self._refresh()
            token = self._look_up(sha256)
        return token

    def of_id(self, token_id: str) -> Sequence[Token]:
        """Returns the tokens with this ID: one, unless a file was written by hand."""
        self._refresh()
        return [token for book in self._books() for token in book.of_id(token_id)]

    def of_gel_user(self, user: str) -> Sequence[Token]:
        """Returns the tokens that were made for a user of Gel."""
        self._refresh()
        return [token for book in self._books() for token in book.of_gel_user(user)]

    def in_plain_text(self) -> Sequence[Token]:
        """Returns the tokens whose secret is known."""
        self._refresh()
        return [token for book in self._books() for token in book.in_plain_text()]

    def names_tenant(self, tenant: str) -> bool:
        """Tells whether a token was made for a tenant."""
        self._refresh()
        return any(book.names_tenant(tenant) for book in self._books())

    def _look_up(self, sha256: str) -> Token | None:
        for book in self._books():
            token = book.find(sha256)
            if token is not None:
                return token
        return None

    def _books(self) -> Iterator[Book]:
        """A token that stands in several has the roles of the first."""
        for file in self._files:
            yield file.book
        yield from self._more
        yield self._fixed

    def _refresh(self) -> None:
        self._checked = time.monotonic()
        for file in self._files:
            try:
                file.load()
            except TokenFileError as error:
                # The tokens read last stay good: a slip of the pen must not lock everybody out.
                _logger.error("%s. The tokens read before stay in force.", error)


class _WatchedFile:
    """A file of tokens, read again when it changes."""

    def __init__(self, path: Path, read: Callable[[Path], Iterable[Token]]) -> None:
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self.book = Book()

    def load(self) -> None:
        """Reads the file if it changed. A missing file has no tokens."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            raise TokenFileError(f"{self._path} can't be read: {error.strerror}") from error
        if stamp == self._stamp:
            return
        # Remembered first: a broken file is complained of once, not every second.
        self._stamp = stamp
        self.book = Book() if stamp is None else Book(self._read(self._path))


def _admin_key(path: Path) -> Iterator[Token]:
    if key := read_admin_key(path):
        roles = frozenset({Role.ADMIN})
        admin = Principal("admin-key", "admin key", roles, tenants=(EVERY_TENANT,))
        yield Token(digest(key), admin, key)


def _file_tokens(path: Path) -> Iterator[Token]:
    return (entry.token() for entry in read_entries(path))


def _fixed(sources: TokenSources) -> Iterator[Token]:
    user, service = frozenset({Role.USER}), frozenset({Role.SERVICE})
    for secret in (each.strip() for each in sources.api_tokens if each.strip()):
        known = digest(secret)
        # Not by its place: what belongs to a token stays its own when others come or go.
        yield Token(known, Principal(f"api-token-{known[:8]}", "API_TOKENS", user), secret)
    if secret := sources.api_key:
        yield Token(digest(secret), Principal("api-key", "[api] api_key", user), secret)
    if secret := sources.service_token:
        principal = Principal("service", "service", service, tenants=(EVERY_TENANT,))
        yield Token(digest(secret), principal)
