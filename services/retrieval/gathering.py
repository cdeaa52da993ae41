"""Gathers the documents of a stream into batches that are embedded and stored together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from services.retrieval.batches import Batch, End, Item
from services.retrieval.intake import Draft, Incoming, check
from services.retrieval.names import CollectionRef
from services.retrieval.records import PropertySchema

LINGER_S = 0.05
"""A batch waits that long for its next document; then it goes on as it is."""
MOST_DOCUMENTS = 256
_LONG = 1024 * 1024
"""Length of a document whose hash takes long enough to be made in a thread."""


@dataclass(slots=True)
class Gatherer:
    """Reads documents no further ahead than the batch that it gathers."""

    collection: CollectionRef
    declared: Sequence[PropertySchema]
    most_bytes: int
    linger_s: float = LINGER_S
    _items: list[Item] = field(default_factory=list[Item])
    _ids: set[str] = field(default_factory=set[str])
    _bytes: int = 0
    _count: int = 0

    async def run(
        self, incoming: AsyncIterator[Incoming], out: "asyncio.Queue[Batch | End]"
    ) -> None:
        """Puts batches out, and how the stream ended; waits while nobody takes them."""
        source = aiter(incoming)
        following: asyncio.Future[Incoming] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(source))
                await asyncio.wait({following}, timeout=self.linger_s if self._items else None)
                if not following.done():
                    await out.put(self._taken())
                    continue
                try:
                    document = following.result()
                finally:
                    following = None
                if len(document.content or "") > _LONG:
                    full = await asyncio.to_thread(self._add, document)
                else:
                    full = self._add(document)
                for batch in full:
                    await out.put(batch)
        except StopAsyncIteration:
            await self._end(out, None)
        except Exception as error:
            await self._end(out, error)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    def _add(self, document: Incoming) -> list[Batch]:
        """Takes a document in; returns batches that are full."""
        item = check(self._count, document, self.collection, self.declared)
        self._count += 1
        size = item.size_bytes if isinstance(item, Draft) else 0
        full: list[Batch] = []
        if self._items and (item.id in self._ids or self._bytes + size > self.most_bytes):
            full.append(self._taken())
        self._items.append(item)
        self._ids.add(item.id)
        self._bytes += size
        if len(self._items) >= MOST_DOCUMENTS or self._bytes >= self.most_bytes:
            full.append(self._taken())
        return full

    def _taken(self) -> Batch:
        batch = Batch(tuple(self._items))
        self._items, self._ids, self._bytes = [], set(), 0
        return batch

    async def _end(self, out: "asyncio.Queue[Batch | End]", error: Exception | None) -> None:
        if self._items:
            await out.put(self._taken())
        await out.put(End(error))
