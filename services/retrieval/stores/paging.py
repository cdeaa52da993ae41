"""Pages of lists that are ordered by time of creation."""

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import InvalidArgument
from services.retrieval.records import Page


async def paged(
    connection: AsyncConnection,
    query: Select[Any],
    page: Page,
    table: Table,
    within: ColumnElement[bool],
) -> Select[Any]:
    """Returns the query of one page. `within` says where `page.after` is.

    Raises:
        InvalidArgument: `page.after` is unknown, and so is its time.
    """
    place = tuple_(table.c.create_time, table.c.id)
    if page.after:
        time = page.after_time
        if time is None:
            last = select(table.c.create_time).where(within, table.c.id == page.after)
            time = await connection.scalar(last)
        if time is None:
            raise InvalidArgument(
                f"'after': there is no {page.after!r} any more. Begin the list anew.",
                field="after",
            )
        after = tuple_(time, page.after, types=[table.c.create_time.type, table.c.id.type])
        query = query.where(place < after if page.descending else place > after)
    columns = (table.c.create_time, table.c.id)
    order = [column.desc() if page.descending else column.asc() for column in columns]
    return query.order_by(*order).limit(page.size)
