"""Tokens as they are checked: by their SHA-256, their ID and their user of Gel."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from policy.principals import EVERY_TENANT, Principal
from policy.scram import Verifier


@dataclass(frozen=True, slots=True)
class Token:
    """A token and who it stands for."""

    sha256: str
    """Its SHA-256, in hex."""
    principal: Principal
    secret: str = field(default="", repr=False)
    """The token itself, where it lies in plain text and is a person's."""
    verifier: Verifier | None = field(default=None, repr=False)
    """For SCRAM, where it was made for a user of Gel."""

    @property
    def over(self) -> bool:
        """Whether its time is over."""
        end = self.principal.expires_at
        return end is not None and end <= time.time()


class Book:
    """Tokens of one source, by what they are looked up by."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._by_sha256: dict[str, Token] = {}
        self._by_id: dict[str, list[Token]] = {}
        self._by_gel_user: dict[str, list[Token]] = {}
        self._tenants: Counter[str] = Counter()
        for token in tokens:
            self.add(token)

    def clear(self) -> None:
        """Removes every token."""
        for index in (self._by_sha256, self._by_id, self._by_gel_user, self._tenants):
            index.clear()

    def __len__(self) -> int:
        return len(self._by_sha256)

    def add(self, token: Token) -> None:
        """Adds a token, in the place of one with the same SHA-256."""
        self.remove(token.sha256)
        principal = token.principal
        self._by_sha256[token.sha256] = token
        self._by_id.setdefault(principal.id, []).append(token)
        if principal.gel_user:
            self._by_gel_user.setdefault(principal.gel_user, []).append(token)
        self._tenants.update(principal.tenants)

    def remove(self, sha256: str) -> None:
        """Removes a token; does nothing where there is none."""
        token = self._by_sha256.pop(sha256, None)
        if token is None:
            return
        principal = token.principal
        for index, key in ((self._by_id, principal.id), (self._by_gel_user, principal.gel_user)):
            left = [other for other in index.pop(key, ()) if other is not token]
            if left:
                index[key] = left
        self._tenants.subtract(principal.tenants)

    def find(self, sha256: str) -> Token | None:
        """Returns the token with this SHA-256."""
        # Looked up by digest: the time that takes tells nothing of any token.
        return self._by_sha256.get(sha256)

    def of_id(self, token_id: str) -> Sequence[Token]:
        """Returns the tokens with this ID."""
        return self._by_id.get(token_id, ())

    def of_gel_user(self, user: str) -> Sequence[Token]:
        """Returns the tokens that were made for a user of Gel."""
        return self._by_gel_user.get(user, ())

    def in_plain_text(self) -> Sequence[Token]:
        """Returns the tokens whose secret is known."""
        return [token for token in self._by_sha256.values() if token.secret]

    def names_tenant(self, tenant: str) -> bool:
        """Tells whether a token was made for a tenant."""
        return tenant != EVERY_TENANT and self._tenants[tenant] > 0
