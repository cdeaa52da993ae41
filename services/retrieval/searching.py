"""Finds passages: embeds what is looked for, asks the store, and orders what it found."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from services.errors import DomainError, FailedPrecondition, InvalidArgument
from services.retrieval.clock import utc_now
from services.retrieval.faults import at, of_collection, renamed
from services.retrieval.names import CollectionRef, model_id
from services.retrieval.peers import Caller, Embedder, Priority, RerankMethod, Task
from services.retrieval.records import Collection, Filter, Hit, Lookup, SearchMode, Vector
from services.retrieval.store import Store
from services.retrieval.values import as_kept, check_text

DEFAULT_TOP_K = 10
MOST_CANDIDATES = 1000
_CANDIDATES = 4
"""Passages that are read for each that is wanted, when they are ordered once more."""
_TOUCH_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reranking:
    """Orders what was found once more."""

    model: str = ""
    candidate_count: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a text, a vector."""

    text: str = ""
    vector: Vector | None = None
    filter: Filter | None = None
    top_k: int = DEFAULT_TOP_K
    min_score: float = 0.0
    mode: SearchMode | None = None
    """None is the service's default."""
    reranking: Reranking | None = None
    max_hits_per_document: int | None = None
    exact: bool = False
    include_vectors: bool = False
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first."""

    collection: CollectionRef
    hits: Sequence[Hit]
    rerank_method: RerankMethod | None = None
    embedded_token_count: int = 0
    search_s: float = 0.0
    """Time it took, without that of EmbeddingService."""


class Searching:
    """Searches collections."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        *,
        default_mode: SearchMode = SearchMode.VECTOR,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._default_mode = default_mode
        self._touches = _Touches(store, clock)

    async def search(self, ref: CollectionRef, query: Query, caller: Caller) -> Found:
        """Finds passages of a collection. Raises as `search_in` does."""
        return await self.search_in(await self._store.collection(*ref), query, caller)

    async def search_in(self, collection: Collection, query: Query, caller: Caller) -> Found:
        """Finds passages of a collection that is known.

        Raises:
            InvalidArgument: the query contradicts itself or the collection.
            NotFound: the collection was deleted.
            Unavailable: EmbeddingService is away.
        """
        mode = self._mode(query)
        _check(query, collection, mode)
        vector, tokens = query.vector, 0
        if vector is None and mode is not SearchMode.TEXT:
            vector, tokens = await self._embedded(collection, query, caller)
        lookup = Lookup(
            top_k=_read(query),
            vector=None if mode is SearchMode.TEXT else vector,
            text="" if mode is SearchMode.VECTOR else query.text,
            mode=mode,
            filter=None if query.filter is None else as_kept(query.filter, collection.properties),
            max_hits_per_document=query.max_hits_per_document,
            exact=query.exact,
            include_vectors=query.include_vectors,
        )
        began = time.perf_counter()
        hits = await self._store.search(collection, lookup)
        search_s = time.perf_counter() - began
        self._touches.note(collection.uid)
        method = None
        if query.reranking is not None and hits:
            hits, method, read = await self._reranked(query, query.reranking, hits, caller)
            tokens += read
        return Found(
            collection=CollectionRef(collection.tenant, collection.id),
            hits=[hit for hit in hits[: query.top_k] if hit.score >= query.min_score],
            rerank_method=method,
            embedded_token_count=tokens,
            search_s=search_s,
        )

    async def close(self) -> None:
        """Writes down what is to be written."""
        await self._touches.close()

    def _mode(self, query: Query) -> SearchMode:
        if query.mode is not None:
            return query.mode
        return self._default_mode if query.text else SearchMode.VECTOR

    async def _embedded(
        self, collection: Collection, query: Query, caller: Caller
    ) -> tuple[Vector, int]:
        try:
            made = await self._embedder.embed(
                collection.embedding_model,
                [query.text],
                task=Task.QUERY,
                caller=caller,
                dimensions=collection.dimensions,
                priority=query.priority,
            )
        except DomainError as error:
            if (error.field or "").startswith("inputs"):
                raise at(error, "text") from None
            raise of_collection(error, "collection") from None
        if made.dimensions != collection.dimensions:
            raise FailedPrecondition(
                f"The model {made.model!r} now makes vectors of {made.dimensions} numbers, and the "
                f"collection's have {collection.dimensions}. Make a new collection."
            )
        return made.vectors[0], made.token_count

    async def _reranked(
        self, query: Query, reranking: Reranking, hits: Sequence[Hit], caller: Caller
    ) -> tuple[list[Hit], RerankMethod, int]:
        try:
            ranked = await self._embedder.rerank(
                model_id(reranking.model),
                query.text,
                [hit.text for hit in hits],
                caller=caller,
                priority=query.priority,
            )
        except DomainError as error:
            fields = {"model": "reranking.model", "query": "text"}
            raise renamed(error, lambda path: fields.get(path, "reranking")) from None
        scored = [replace(hit, score=score) for hit, score in zip(hits, ranked.scores, strict=True)]
        # Sorting is stable: equal scores stay in the order in which they were found.
        scored.sort(key=lambda hit: -hit.score)
        return scored, ranked.method, ranked.token_count


def _read(query: Query) -> int:
    """Passages that are asked of the store."""
    if query.reranking is None:
        return query.top_k
    wanted = query.reranking.candidate_count or _CANDIDATES * query.top_k
    return min(wanted, MOST_CANDIDATES)


def _check(query: Query, collection: Collection, mode: SearchMode) -> None:
    check_text(query.text, "text")
    if not query.text:
        for field, needs in (
            ("mode", mode is not SearchMode.VECTOR),
            ("reranking", query.reranking is not None),
        ):
            if needs:
                raise InvalidArgument(
                    f"'{field}': needs a text to look for. Send 'text' in place of 'vector'.",
                    field=field,
                )
    vector = query.vector
    if vector is None:
        return
    if len(vector) != collection.dimensions:
        raise InvalidArgument(
            f"'vector.values': has {len(vector)} numbers, and the collection's vectors have "
            f"{collection.dimensions}.",
            field="vector.values",
        )
    if not np.isfinite(vector).all():
        raise InvalidArgument("'vector.values': numbers must be finite.", field="vector.values")


class _Touches:
    """Notes when collections were searched: together, and without letting an answer wait."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._noted: dict[str, datetime] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, uid: str) -> None:
        self._noted[uid] = self._clock()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(_TOUCH_S))

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write(0.0)

    async def _write(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while self._noted:
            uid, then = self._noted.popitem()
            try:
                await self._store.touch_collection(uid, then)
            except DomainError as error:
                # Nobody waits for it, and the next search notes it again.
                _log.info("a search could not be noted: %s", error.message)
            except Exception:
                _log.exception("a search could not be noted")
