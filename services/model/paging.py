"""Opaque page tokens: they say where the next page begins, so inserts and deletes move nothing."""

import base64
import binascii
from collections.abc import Sequence

import msgspec

from services.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def page_size(asked: int) -> int:
    """Returns how many items a page holds."""
    if asked < 0:
        raise InvalidArgument("page_size must not be negative.", field="page_size")
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def encode(after: str, query: Sequence[str]) -> str:
    """Makes the token of the page after `after`, of the list that `query` asks for."""
    packed = msgspec.json.encode([after, *query])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def decode(token: str, query: Sequence[str]) -> str:
    """Returns `after` of a token, or "" for the first page."""
    if not token:
        return ""
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after, *rest = msgspec.json.decode(packed, type=list[str])
    except (binascii.Error, ValueError, UnicodeError) as error:
        raise InvalidArgument(
            "This is no page token. Send next_page_token as it came, or none for the first page.",
            field="page_token",
        ) from error
    if rest != list(query) or "\0" in after:
        raise InvalidArgument(
            "This page token belongs to another list. Ask as for the page before.",
            field="page_token",
        )
    return after


def number(after: str) -> int:
    """Reads `after` where it is a number."""
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise InvalidArgument("This is no page token.", field="page_token")
    return int(after)
