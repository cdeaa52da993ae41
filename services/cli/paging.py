"""Lists that services give in pages."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

_PAGE_SIZE = 1000
_TIMEOUT_S = 30.0


class PageRequest(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


class Page(Protocol):
    """A page."""

    next_page_token: str


Q = TypeVar("Q", bound=PageRequest)
Q_contra = TypeVar("Q_contra", bound=PageRequest, contravariant=True)
P = TypeVar("P", bound=Page)
P_co = TypeVar("P_co", bound=Page, covariant=True)
T = TypeVar("T")


class List(Protocol[Q_contra, P_co]):
    """A stub's method that gives pages."""

    def __call__(self, request: Q_contra, /, *, timeout: float) -> Awaitable[P_co]:
        """Asks for a page."""
        ...


async def listed(
    method: List[Q, P],
    request: Q,
    items: Callable[[P], Iterable[T]],
    *,
    limit: int | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> tuple[list[T], bool]:
    """Returns what is on the pages of a list, and whether there is more.

    Args:
        method: gives a page.
        request: for the first page; is changed into that for the last.
        items: what is on a page.
        limit: how much is wanted; None for all.
        timeout_s: how long a page may take.
    """
    found: list[T] = []
    while True:
        left = _PAGE_SIZE if limit is None else limit - len(found)
        request.page_size = min(_PAGE_SIZE, left)
        page = await method(request, timeout=timeout_s)
        found.extend(items(page))
        if not page.next_page_token or (limit is not None and len(found) >= limit):
            return found, bool(page.next_page_token)
        request.page_token = page.next_page_token
