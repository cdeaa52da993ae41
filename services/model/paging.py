"""Pages of the catalogue's lists."""

from services.errors import InvalidArgument
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
