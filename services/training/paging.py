"""Opaque page tokens: they say after which item the next page begins."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, NamedTuple, TypeVar

import msgspec

from services.errors import InvalidArgument
from services.training.records import Page

Item = TypeVar("Item")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """Where an item stands in its list, whether or not it is still there."""

    id: str
    time: datetime | None = None
    """When it was created. None where only the store knows it."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """Some items of a list."""

    items: Sequence[Item]
    next_page_token: str
    """Gets the next page. Empty after the last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of a list a caller asks for."""

    size: int = 0
    """0 is the list's default."""
    token: str = ""
    after: str = ""
    """ID of the item after which the page starts, in place of a token."""
    descending: bool = True


def begin(asked: Asked, query: Sequence[str], *, default_size: int, most: int) -> Page:
    """Returns the page to read from the store: one item more than is answered, to tell whether
    another page follows. `query` says which list it is."""
    if asked.size < 0:
        raise InvalidArgument("'page_size': must not be negative.", field="page_size")
    if asked.after and asked.token:
        raise InvalidArgument("'after': not together with page_token.", field="after")
    size = min(asked.size or default_size, most)
    after = Place(asked.after) if asked.after else _decode(asked.token, _full(asked, query))
    return Page(size + 1, after.id, asked.descending, after.time)


def end(
    items: Sequence[Item], places: Sequence[Place], page: Page, asked: Asked, query: Sequence[str]
) -> Listing[Item]:
    """Makes a listing of what the store returned for a page."""
    size = page.size - 1
    if len(items) <= size:
        return Listing(items, "")
    return Listing(items[:size], _encode(places[size - 1], _full(asked, query)))


def _full(asked: Asked, query: Sequence[str]) -> list[str]:
    return [*query, "desc" if asked.descending else "asc"]


def _encode(after: Place, query: Sequence[str]) -> str:
    time = "" if after.time is None else str((after.time - _EPOCH) // timedelta(microseconds=1))
    packed = msgspec.json.encode([after.id, time, *query])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def _decode(token: str, query: Sequence[str]) -> Place:
    if not token:
        return Place("")
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after, micros, *rest = msgspec.json.decode(packed, type=list[str])
        time = _EPOCH + timedelta(microseconds=int(micros))
    except (binascii.Error, ValueError, OverflowError) as error:
        raise InvalidArgument(
            "'page_token': this is no page token. Send next_page_token as it came, or none for the "
            "first page.",
            field="page_token",
        ) from error
    if rest != list(query) or "\0" in after:
        raise InvalidArgument(
            "'page_token': this one belongs to another list. Ask as for the page before.",
            field="page_token",
        )
    return Place(after, time)
