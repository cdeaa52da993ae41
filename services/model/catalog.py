"""The catalogue: which models are wanted, under which names, with which settings."""

import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from services.errors import AlreadyExists, Conflict, FailedPrecondition, ModelNotFound
from services.model import paging
from services.model.bases import check_settings, check_unused, with_base
from services.model.checks import (
    check_aliases,
    check_config,
    check_deploy,
    fingerprint,
    receipt_key,
)
from services.model.names import not_found
from services.model.records import (
    DeployRequest,
    Entry,
    Model,
    ModelConfig,
    ModelKind,
    Receipt,
    Revision,
)
from services.model.states import view
from services.model.store import Reading, Store, Writing
from services.page_tokens import Place, decode, encode

Item = TypeVar("Item")

OWNER = "penstock"
"""Owner of models that nobody else owns."""


def utc_now() -> datetime:
    """Returns the present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list."""

    items: Sequence[Item]
    next_page_token: str
    """Gets the next page. Empty after the last."""


class Catalog:
    """Answers for the catalogue. Every change is counted and announced."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        report_interval: timedelta = timedelta(seconds=5),
        announce: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.report_interval = report_interval
        self._announce = announce

    def view(self, entry: Entry) -> Model:
        """Joins an entry with what live processes report of it."""
        return view(entry, self.clock(), self.report_interval)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[Writing, None]:
        """Opens a transaction that writes, and announces the sequence that it reached."""
        async with self.store.writing() as tx:
            yield tx
            sequence = await tx.sequence()
        self._announce(sequence)

    async def get(self, name: str) -> Model:
        """Returns the model that has this ID or alias."""
        async with self.store.reading() as tx:
            return self.view(await find(tx, name))

    async def list(
        self,
        *,
        kinds: Sequence[ModelKind] = (),
        page_size: int = 0,
        page_token: str = "",
        sees: Callable[[Entry], bool] = lambda _: True,
    ) -> Page[Model]:
        """Returns models by ID, those that the caller sees."""
        query = ["models", *sorted(set(kinds))]
        after = decode(page_token, query).id
        size = paging.page_size(page_size)
        async with self.store.reading() as tx:
            entries = await paging.seen(tx, sees, kinds=kinds, after=after, count=size + 1)
        token = encode(Place(entries[size - 1].id), query) if len(entries) > size else ""
        return Page([self.view(entry) for entry in entries[:size]], token)

    async def revisions(
        self, name: str, *, page_size: int = 0, page_token: str = ""
    ) -> Page[Revision]:
        """Returns revisions of a model, newest first."""
        size = paging.page_size(page_size)
        async with self.store.reading() as tx:
            entry = await find(tx, name)
            query = ["revisions", entry.uid]
            after = decode(page_token, query).id
            below = paging.number(after) if after else None
            found = await tx.revisions(entry.id, below=below, limit=size + 1)
        last = found[size - 1].number if len(found) > size else None
        token = "" if last is None else encode(Place(str(last)), query)
        return Page(found[:size], token)

    async def deploy(
        self, request: DeployRequest, *, caller: str = "", request_id: str = ""
    ) -> Model:
        """Adds a model, or a revision to one.

        With a request ID the call is repeatable: again, it returns what it made the first time.
        """
        check_deploy(request)
        now = self.clock()
        receipt = Receipt(receipt_key(caller, request_id), fingerprint(request), "", 0, now)
        async with self.writing() as tx:
            if request_id and (first := await tx.receipt(receipt.key)):
                return await self._repeat(tx, request.model_id, receipt, first)
            entry = await self._deployed(tx, request, now)
            await tx.record(entry, now)
            await tx.put(entry)
            if request_id:
                made = replace(receipt, uid=entry.uid, revision=entry.revision.number)
                await tx.remember(made)
            return self.view(entry)

    async def _deployed(self, tx: Writing, request: DeployRequest, now: datetime) -> Entry:
        owner = await tx.resolve(request.model_id)
        if owner is not None and owner != request.model_id:
            raise AlreadyExists(
                f"{request.model_id!r} is an alias of {owner!r}. Choose another ID.",
                field="model_id",
            )
        old = await exact(tx, request.model_id) if owner else None
        if old is not None:
            _check_update(old, request)
        await check_free(tx, request.model_id, request.aliases)
        request = await with_base(tx, request, old)
        sequence = await tx.sequence() + 1
        revision = Revision(
            model_id=request.model_id,
            number=await tx.next_revision(request.model_id),
            source=request.source,
            create_time=now,
            load_options=request.load_options,
        )
        if old is None:
            return Entry(
                id=request.model_id,
                uid=str(uuid.uuid4()),
                kind=request.kind,
                display_name=request.display_name or request.model_id,
                owned_by=request.owned_by or OWNER,
                base_model=request.base_model,
                aliases=request.aliases,
                revision=revision,
                config=request.config or ModelConfig(),
                config_version=sequence,
                seed="",
                stopped=False,
                first_revision=revision.number,
                create_time=now,
                update_time=now,
            )
        return replace(
            old,
            display_name=request.display_name or old.display_name,
            owned_by=request.owned_by or old.owned_by,
            base_model=request.base_model or old.base_model,
            aliases=request.aliases or old.aliases,
            revision=revision,
            config=request.config or old.config,
            config_version=sequence if request.config else old.config_version,
            seed="",
            stopped=False,
            update_time=now,
        )

    async def _repeat(self, tx: Reading, model_id: str, again: Receipt, first: Receipt) -> Model:
        if first.fingerprint != again.fingerprint:
            raise Conflict(
                "This request_id was used for another deployment. Use a new one.",
                field="request_id",
            )
        entries = await tx.entries(ids=[model_id])
        if not entries or entries[0].uid != first.uid:
            raise Conflict(
                "What this request_id deployed was deleted since. Use a new one.",
                field="request_id",
            )
        model = self.view(entries[0])
        [revision] = await tx.revisions(model_id, below=first.revision + 1, limit=1)
        return replace(model, entry=replace(model.entry, revision=revision))

    async def delete(self, model_id: str) -> None:
        """Removes a model that a call deployed."""
        async with self.writing() as tx:
            entry = await exact(tx, model_id)
            if entry.seed and not entry.stopped:
                raise FailedPrecondition(
                    f"{entry.id!r} comes from the configuration file. Remove it there, then "
                    "restart the model service.",
                )
            await check_unused(tx, entry)
            await tx.record(entry, self.clock())
            await tx.remove(entry)

    async def update_config(
        self, name: str, changes: Mapping[str, Any], *, etag: str = ""
    ) -> Model:
        """Changes settings; with an etag, only of the state that the caller read."""
        async with self.writing() as tx:
            entry = await find(tx, name)
            if etag and etag != str(entry.config_version):
                raise Conflict(
                    "The settings changed since you read them. Read them again, then update.",
                    field="config.etag",
                    metadata={"etag": str(entry.config_version)},
                )
            config = replace(entry.config, **changes)
            check_config(config, "config")
            await check_settings(entry, config)
            if config != entry.config:
                now = self.clock()
                sequence = await tx.record(entry, now)
                entry = replace(entry, config=config, config_version=sequence, update_time=now)
                await tx.put(entry)
            return self.view(entry)

    async def set_aliases(self, model_id: str, aliases: Sequence[str]) -> Model:
        """Sets the other IDs of a model, all of them."""
        wanted = check_aliases(aliases, model_id)
        async with self.writing() as tx:
            entry = await exact(tx, model_id)
            await check_free(tx, model_id, wanted)
            if wanted != entry.aliases:
                now = self.clock()
                await tx.record(entry, now)
                entry = replace(entry, aliases=wanted, update_time=now)
                await tx.put(entry)
            return self.view(entry)


async def find(tx: Reading, name: str) -> Entry:
    """Returns the entry that has this ID or alias, or raises `ModelNotFound`."""
    model_id = await tx.resolve(name)
    if model_id is None:
        raise not_found(name)
    return (await tx.entries(ids=[model_id]))[0]


async def exact(tx: Reading, model_id: str) -> Entry:
    """Returns the entry that has this ID: what an alias leads to may change under the caller."""
    entry = await find(tx, model_id)
    if entry.id != model_id:
        raise ModelNotFound(f"{model_id!r} is an alias of {entry.id!r}. Name that instead.")
    return entry


async def check_free(tx: Reading, model_id: str, aliases: Sequence[str]) -> None:
    """Raises `AlreadyExists` where one of the names leads to another model."""
    for index, alias in enumerate(aliases):
        owner = await tx.resolve(alias)
        if owner is not None and owner != model_id:
            raise AlreadyExists(
                f"{alias!r} leads to the model {owner!r}. Choose another alias.",
                field=f"aliases[{index}]",
            )


def _check_update(old: Entry, request: DeployRequest) -> None:
    if not request.allow_update:
        raise AlreadyExists(
            f"There is a model {old.id!r}. Set allow_update to give it a new revision.",
            field="model_id",
        )
    if old.seed and not old.stopped:
        raise FailedPrecondition(
            f"{old.id!r} comes from the configuration file. Change it there, then restart the "
            "model service.",
        )
    if old.kind is not request.kind:
        raise FailedPrecondition(
            f"{old.id!r} is a model of the kind {old.kind.value!r}. Delete it first, or choose "
            "another ID."
        )
