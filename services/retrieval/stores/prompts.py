"""Prompts, in SQL."""

import secrets
from collections.abc import Sequence

from sqlalchemy import case, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import Conflict, NotFound
from services.retrieval.records import Page, Prompt
from services.retrieval.stores import rows
from services.retrieval.stores.database import Database
from services.retrieval.stores.tables import PROMPTS

_C = PROMPTS.c


class SqlPrompts:
    """Keeps prompts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_prompt(self, prompt: Prompt, etag: str = "") -> Prompt:
        """Creates or replaces one; see `services.retrieval.store`."""
        prompt_row = rows.prompt_row(prompt)
        try:
            async with self._database.writing() as connection:
                return await self._put(connection, prompt, prompt_row, etag)
        except IntegrityError as error:
            raise Conflict("The prompt was made by another call just now. Try again.") from error

    async def _put(
        self, connection: AsyncConnection, prompt: Prompt, row: dict[str, object], etag: str
    ) -> Prompt:
        named = (_C.tenant == prompt.tenant, _C.id == prompt.id)
        query = select(PROMPTS).where(*named).with_for_update()
        known = (await connection.execute(query)).mappings().one_or_none()
        if etag and (known is None or known["etag"] != etag):
            raise Conflict(
                "The prompt changed since you read it. Read it again, then replace it.",
                field="prompt.etag",
                metadata={} if known is None else {"etag": known["etag"]},
            )
        row["etag"] = prompt.etag or secrets.token_hex(8)
        if known is None:
            await connection.execute(insert(PROMPTS).values(row))
        else:
            row |= {"uid": known["uid"], "create_time": known["create_time"]}
            await connection.execute(update(PROMPTS).where(*named).values(row))
        return rows.to_prompt((await connection.execute(query)).mappings().one())

    async def prompt(self, tenant: str, key: str) -> Prompt:
        """Gets one by ID or uid; an ID goes first."""
        async with self._database.reading() as connection:
            row = await self._found(connection, tenant, key)
        return rows.to_prompt(row)

    async def _found(self, connection: AsyncConnection, tenant: str, key: str) -> rows.Row:
        query = (
            select(PROMPTS)
            .where(_C.tenant == tenant, or_(_C.id == key, _C.uid == key))
            .order_by(case((_C.id == key, 0), else_=1))
            .limit(1)
        )
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no prompt {key!r}.", metadata={"prompt": key})
        return row

    async def prompts(self, tenant: str, page: Page) -> Sequence[Prompt]:
        """Lists a tenant's, by ID."""
        query = select(PROMPTS).where(_C.tenant == tenant, _C.id > page.after)
        query = query.order_by(_C.id).limit(page.size)
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).mappings().all()
        return [rows.to_prompt(row) for row in found]

    async def delete_prompt(self, tenant: str, key: str) -> None:
        """Deletes one."""
        async with self._database.writing() as connection:
            row = await self._found(connection, tenant, key)
            await connection.execute(delete(PROMPTS).where(_C.tenant == tenant, _C.id == row["id"]))
