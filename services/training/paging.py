"""Pages of lists."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.errors import InvalidArgument
from services.page_tokens import Place, decode, encode
from services.training.records import Page

Item = TypeVar("Item")


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


async def listed(
    asked: Asked,
    query: Sequence[str],
    read: Callable[[Page], Awaitable[Sequence[Item]]],
    place: Callable[[Item], Place],
    *,
    default_size: int,
    most: int,
) -> Listing[Item]:
    """Reads a page from the store and makes a listing of it. `query` says which list it is, and
    `place` where an item stands."""
    page = begin(asked, query, default_size=default_size, most=most)
    items = await read(page)
    return end(items, [place(item) for item in items], page, asked, query)


def begin(asked: Asked, query: Sequence[str], *, default_size: int, most: int) -> Page:
    """Returns the page to read from the store: one item more than is answered, to tell whether
    another page follows. `query` says which list it is."""
    if asked.size < 0:
        raise InvalidArgument("'page_size': must not be negative.", field="page_size")
    if asked.after and asked.token:
        raise InvalidArgument("'after': not together with page_token.", field="after")
    size = min(asked.size or default_size, most)
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


def _full(asked: Asked, query: Sequence[str]) -> list[str]:
    return [*query, "desc" if asked.descending else "asc"]
