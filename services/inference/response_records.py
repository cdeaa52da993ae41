"""Responses that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a conversation."""

    id: str
    json: str
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class NewResponse:
    """A response to keep."""

    id: str
    """`resp_` and 24 characters."""
    previous: str | None
    """ID of the response that it continues."""
    input: Sequence[Item]
    output: Sequence[Item]
    json: str
    """What else is known of it: a JSON object."""

    @property
    def size_bytes(self) -> int:
        """Length of its items."""
        return sum(len(item.json.encode()) for item in (*self.input, *self.output))


@dataclass(frozen=True, slots=True)
class Response:
    """A response that is kept."""

    id: str
    previous: str | None
    output: Sequence[Item]
    json: str
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Chain:
    """How long the conversation is that ends with a response."""

    response_count: int
    size_bytes: int
    is_whole: bool
    """Whether every response of it is still there."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an item stands in a conversation."""

    turn: int
    """Counts responses from 1."""
    position: int
    """Counts the items of a response from 0."""


@dataclass(frozen=True, slots=True)
class Window:
    """A page of items to read from the store."""

    size: int
    descending: bool
    after: Spot | None = None
    after_id: str = ""
    """ID of the item before the page, where its spot isn't known."""
