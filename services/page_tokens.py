"""Opaque page tokens: they say of which list a page is, and after which item it begins. So inserts
and deletes between two pages move nothing."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from services.errors import InvalidArgument

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """Where an item stands in its list, whether or not it is still there."""

    id: str
    """Empty for the first page."""
    time: datetime | None = None
    """When it was created. None in lists by ID, and where only the store knows it."""


def encode(after: Place, query: Sequence[str]) -> str:
    """Makes the token of the page after an item, of the list that `query` asks for."""
    time = "" if after.time is None else str((after.time - _EPOCH) // timedelta(microseconds=1))
    packed = msgspec.json.encode([after.id, time, *query])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def decode(token: str, query: Sequence[str]) -> Place:
    """Returns the item of a token; for none, the place before the first page.

    Raises:
        InvalidArgument: it is no token, or one of another list.
    """
    if not token:
        return Place("")
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after, micros, *rest = msgspec.json.decode(packed, type=list[str])
        time = _EPOCH + timedelta(microseconds=int(micros)) if micros else None
    except (binascii.Error, ValueError, OverflowError) as error:
        raise no_token() from error
    if rest != list(query) or "\0" in after:
        raise InvalidArgument(
            "'page_token': this one belongs to another list. Ask as for the page before.",
            field="page_token",
        )
    return Place(after, time)


def no_token() -> InvalidArgument:
    """The error for what no list ever gave."""
    return InvalidArgument(
        "'page_token': this is no page token. Send next_page_token as it came, or none for the "
        "first page.",
        field="page_token",
    )
