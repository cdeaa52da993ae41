"""Keys that come from a feed: what a process knows of those in ModelService's database.

Who feeds it tells a snapshot first, then changes. While the feed is away, what it told last stays
in force; before it ever told anything, nobody can say whose a key is.
"""

from collections.abc import Iterable

from policy.tokens import Book, Token


class KeysUnknownError(Exception):
    """A credential looks like a key, and no word about keys has come yet."""


class FedKeys(Book):
    """The book of a feed."""

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        """Whether the feed ever told which keys there are."""

    def replace(self, tokens: Iterable[Token]) -> None:
        """Takes a snapshot: these keys and no others."""
        self.clear()
        for token in tokens:
            self.add(token)
        self.known = True

    def put(self, token: Token) -> None:
        """Takes a key that was added or changed."""
        self.drop(token.principal.id)
        self.add(token)

    def drop(self, key_id: str) -> None:
        """Forgets a key that was revoked."""
        for token in tuple(self.of_id(key_id)):
            self.remove(token.sha256)
