"""Pages of lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.errors import InvalidArgument
from services.page_tokens import Place, decode, encode
from services.retrieval.records import Page

Item = TypeVar("Item")

MAX_PAGE_SIZE = 1000
MAX_PAGE_BYTES = 32 * 1024 * 1024
"""Beyond this a page ends early, so that it fits into a message."""


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


def begin(asked: Asked, query: Sequence[str], default_size: int) -> Page:
    """Returns the page to read from the store: one item more than is answered, to tell whether
    another page follows. `query` says which list it is."""
    if asked.size < 0:
        raise InvalidArgument("'page_size': must not be negative.", field="page_size")
    size = min(asked.size or default_size, MAX_PAGE_SIZE)
    after = Place(asked.after) if asked.after else decode(asked.token, _full(asked, query))
    return Page(size + 1, after.id, asked.descending, after.time)


def end(
    items: Sequence[Item], places: Sequence[Place], page: Page, asked: Asked, query: Sequence[str]
) -> Listing[Item]:
    """Makes a listing of what the store returned for a page."""
    size = page.size - 1
    if len(items) <= size:
        return Listing(items, "")
    return Listing(items[:size], encode(places[size - 1], _full(asked, query)))


def cut(
    listing: Listing[Item],
    sizes: Sequence[int],
    places: Sequence[Place],
    asked: Asked,
    query: Sequence[str],
) -> Listing[Item]:
    """Ends a page before its items, of these sizes in bytes, are too many for a message."""
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if total > MAX_PAGE_BYTES and number:
            token = encode(places[number - 1], _full(asked, query))
            return Listing(listing.items[:number], token)
    return listing


def _full(asked: Asked, query: Sequence[str]) -> list[str]:
    return [*query, "desc" if asked.descending else "asc"]
