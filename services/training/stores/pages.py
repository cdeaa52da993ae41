"""Pages of lists by time of creation."""

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import InvalidArgument
from services.training.records import Page


async def paged(
    connection: AsyncConnection,
    query: Select[Any],
    table: Table,
    page: Page,
    *,
    seen: ColumnElement[bool],
    noun: str,
) -> Select[Any]:
    """Returns the query of one page of a table's list. `seen` is what the caller sees of it, and
    `noun` what it holds."""
    key = (table.c.create_time, table.c.id)
    if page.after:
        time = page.after_time
        if time is None:
            time = await connection.scalar(select(key[0]).where(key[1] == page.after, seen))
        if time is None:
            raise unknown_place(page, noun)
        place = tuple_(*key)
        after = tuple_(time, page.after, types=[column.type for column in key])
        query = query.where(place < after if page.descending else place > after)
    order = [column.desc() if page.descending else column for column in key]
    return query.order_by(*order).limit(page.size)


def unknown_place(page: Page, noun: str) -> InvalidArgument:
    """The error for a page after what isn't there."""
    return InvalidArgument(
        f"'after': there is no {noun} {page.after!r} any more. Begin the list anew.", field="after"
    )
