"""Puts documents in: a pipeline that gathers, compares, reads, embeds and stores.

Each stage works on one batch while the next stage works on the one before, and waits while that is
not done: so a stream is read no faster than it is stored. What is stored is told in the order of
the stream. When a stage fails, what went before is settled and told, then the stream fails.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.errors import DomainError
from services.retrieval.batches import Batch, End, Item, Ready, Text, Touched, Unchanged
from services.retrieval.faults import reworded
from services.retrieval.gathering import Gatherer
from services.retrieval.intake import Draft, Incoming, Refused
from services.retrieval.names import CollectionRef, document_name
from services.retrieval.parsing import Extractor
from services.retrieval.passages import Passages
from services.retrieval.peers import Caller, Embedder, Priority
from services.retrieval.records import Collection, Fingerprint, Outcome
from services.retrieval.store import Store

_MOST_SHOWN = 2048


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How much is worked on at once."""

    batch_bytes: int = 8 * 1024 * 1024
    """Text of a batch, unless one document has more."""
    call_tokens: int = 8192
    """About the tokens that are embedded by one call."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where documents go."""

    collection: CollectionRef
    fail_fast: bool = False
    priority: Priority = Priority.LOW


@dataclass(frozen=True, slots=True)
class Committed:
    """Documents are stored for good."""

    settled_count: int
    """The first so many documents of the stream are stored or refused."""
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document was refused."""

    index: int
    name: str
    error: DomainError


@dataclass(slots=True)
class Finish:
    """Every document was stored or refused; the counts grow while the stream runs."""

    created_count: int = 0
    replaced_count: int = 0
    unchanged_count: int = 0
    rejected_count: int = 0
    embedded_chunk_count: int = 0
    embedded_token_count: int = 0


Event = Committed | Rejected | Finish
_Stage = Callable[[Batch], Awaitable[Batch]]


class Ingest:
    """Puts documents into collections."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        extractor: Extractor,
        settings: IngestSettings = IngestSettings(),
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._extractor = extractor
        self._settings = settings

    async def upsert(
        self, start: Start, incoming: AsyncIterator[Incoming], caller: Caller
    ) -> AsyncGenerator[Event, None]:
        """Stores documents as they come in, and tells what was settled.

        Raises:
            NotFound: there is no such collection, or it was deleted meanwhile.
            Unavailable: documents can't be embedded or stored for now.
            DomainError: with `fail_fast`, why the first document was refused.
        """
        collection = await self._store.collection(*start.collection)
        upsert = _Upsert(self._store, self._extractor, collection, start)
        passages = Passages(
            self._embedder, collection, start.priority, caller, self._settings.call_tokens
        )
        gatherer = Gatherer(start.collection, collection.properties, self._settings.batch_bytes)
        gathered, read, embedded = (asyncio.Queue[Batch | End](1) for _ in range(3))
        tasks = [
            asyncio.create_task(gatherer.run(incoming, gathered)),
            asyncio.create_task(_stage(gathered, upsert.read, read)),
            asyncio.create_task(_stage(read, passages.embed, embedded)),
        ]
        try:
            async with aclosing(upsert.settle(embedded)) as events:
                async for event in events:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _stage(
    source: asyncio.Queue[Batch | End], work: _Stage, out: asyncio.Queue[Batch | End]
) -> None:
    """Works on each batch, until the end or until it fails."""
    while True:
        item = await source.get()
        if isinstance(item, Batch):
            try:
                item = await work(item)
            except Exception as error:
                item = End(error)
        await out.put(item)
        if isinstance(item, End):
            return


class _Upsert:
    """One stream: what is pending of it, and what was settled."""

    def __init__(
        self, store: Store, extractor: Extractor, collection: Collection, start: Start
    ) -> None:
        self._store = store
        self._extractor = extractor
        self._collection = collection
        self._start = start
        self._pending = Counter[str]()
        """IDs in batches that are not stored yet, and in how many."""
        self._settled = 0
        self._finish = Finish()

    async def read(self, batch: Batch) -> Batch:
        """Finds out which documents are new or changed, and takes the text out of those."""
        ids = [item.id for item in batch.items if isinstance(item, Draft)]
        # What an earlier batch is about to store says more than what is stored: such documents are
        # done again, whole.
        known = [id for id in ids if not self._pending[id]]
        self._pending.update(ids)
        stored: Mapping[str, Fingerprint] = {}
        if known:
            stored = await self._store.fingerprints(self._collection.uid, known)
        items = await asyncio.gather(
            *(self._compared(item, stored.get(item.id)) for item in batch.items)
        )
        return self._cut(replace(batch, items=items, pending=ids))

    def _cut(self, batch: Batch) -> Batch:
        return batch.until_refused() if self._start.fail_fast else batch

    async def _compared(self, item: Item, stored: Fingerprint | None) -> Item:
        if not isinstance(item, Draft):
            return item
        try:
            if stored is None or not item.repeats(stored):
                return await self._extracted(item)
            title = item.title
            if not title and stored.title:
                # It may be the one that the content names.
                title = (await self._extracted(item)).title
        except DomainError as error:
            return Refused(item.index, item.id, error)
        fingerprint = item.fingerprint(title, stored.mime_type)
        if fingerprint == stored:
            return Unchanged(item.index, item.id)
        return Touched(item.index, item.id, fingerprint)

    async def _extracted(self, draft: Draft) -> Text:
        extracted = await self._extractor.extract(draft.content, draft.mime_type)
        return Text(
            draft=draft,
            title=draft.title or extracted.title,
            mime_type=extracted.mime_type,
            text=extracted.text,
        )

    async def settle(self, batches: asyncio.Queue[Batch | End]) -> AsyncGenerator[Event, None]:
        """Stores what was embedded, batch by batch, and tells of it."""
        while True:
            batch = await batches.get()
            if isinstance(batch, End):
                if batch.error is not None:
                    raise batch.error
                yield self._finish
                return
            batch = self._cut(batch)
            committed = await self._store_batch(batch)
            for item in batch.items:
                if isinstance(item, Refused):
                    yield Rejected(item.index, self._name(item.id)[:_MOST_SHOWN], item.error)
            yield committed
            last = batch.items[-1]
            if self._start.fail_fast and isinstance(last, Refused):
                raise _failed_fast(last)

    async def _store_batch(self, batch: Batch) -> Committed:
        uid = self._collection.uid
        ready = [item for item in batch.items if isinstance(item, Ready)]
        touched = {i.id: i.fingerprint for i in batch.items if isinstance(i, Touched)}
        if touched:
            await self._store.update_documents(uid, touched)
        documents = [item.document for item in ready]
        outcomes = await self._store.put_documents(uid, documents) if documents else ()
        self._pending.subtract(batch.pending)
        self._pending += Counter()  # drops those at zero
        finish = self._finish
        finish.created_count += sum(outcome is Outcome.CREATED for outcome in outcomes)
        finish.replaced_count += len(touched)
        finish.replaced_count += sum(outcome is Outcome.REPLACED for outcome in outcomes)
        finish.unchanged_count += sum(outcome is Outcome.UNCHANGED for outcome in outcomes)
        finish.unchanged_count += sum(isinstance(item, Unchanged) for item in batch.items)
        finish.rejected_count += sum(isinstance(item, Refused) for item in batch.items)
        finish.embedded_chunk_count += sum(len(document.chunks) for document in documents)
        finish.embedded_token_count += batch.token_count
        self._settled += len(batch.items)
        stored = [i.id for i in batch.items if not isinstance(i, Refused)]
        return Committed(self._settled, [self._name(id) for id in stored])

    def _name(self, id: str) -> str:
        return document_name(self._start.collection, id)


def _failed_fast(refused: Refused) -> DomainError:
    return reworded(refused.error, f"Document {refused.index} was refused: {refused.error.message}")
