"""Pages of the catalogue's lists."""

from collections.abc import Callable, Sequence

from services.errors import InvalidArgument
from services.model.records import Entry, ModelKind
from services.model.store import Reading
from services.page_tokens import no_token

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def page_size(asked: int) -> int:
    """Returns how many items a page holds."""
    if asked < 0:
        raise InvalidArgument("'page_size': must not be negative.", field="page_size")
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def number(after: str) -> int:
    """Reads `after` where it is a number."""
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise no_token()
    return int(after)


async def seen(
    tx: Reading,
    sees: Callable[[Entry], bool],
    *,
    kinds: Sequence[ModelKind],
    after: str,
    count: int,
) -> list[Entry]:
    """Returns as many models as asked for, where there are, of those that a caller sees."""
    found: list[Entry] = []
    while True:
        more = await tx.entries(kinds=kinds, after=after, limit=count)
        found += filter(sees, more)
        if len(found) >= count or len(more) < count:
            return found[:count]
        after = more[-1].id
