"""The index port: keeps the chunks of collections, and finds them by vectors and by words.

Each collection's chunks are in tables of their own. So statistics of words, approximate indexes and
the time a search takes depend on one collection only, and deleting one takes no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sqlalchemy import Subquery, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from services.retrieval.records import Metric, Vector


@dataclass(frozen=True, slots=True)
class Space:
    """The chunks of one collection, at one state of the database."""

    key: int
    """Of the collection; never used again."""
    dimensions: int
    metric: Metric
    sequence: int
    """Counts the changes of the collection's documents."""
    chunk_count: int
    word_count: int
    """Words of all chunks together."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk to keep."""

    id: int
    """Unique in its collection, and never used again. Those of a document follow each other."""
    document: int
    """Number of its document."""
    position: int
    start_byte: int
    end_byte: int
    text: str
    words: Sequence[str]
    vector: Vector


class Span(NamedTuple):
    """Chunks that follow each other."""

    first: int
    length: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What is searched: documents of a space."""

    space: Space
    documents: Subquery
    """Those that may be found: `number`, `id`, `first_chunk`, `chunk_count`."""
    filtered: bool
    """Whether these are not all."""


class Ranked(NamedTuple):
    """A chunk that was found."""

    chunk: int
    document: int
    value: float
    """Its distance, or its score by words."""


class Moved(Exception):  # noqa: N818  (it is no fault: the search begins again)
    """The transaction sees an older state than another search did: a new one is needed."""


class Index(Protocol):
    """Works on connections of the store, in the transaction that is open there."""

    def close(self) -> None:
        """Lets go of what it holds."""
        ...

    def chunks(self, space: Space) -> Table:
        """The table of a collection's chunks: `id`, `document`, `position`, `start_byte`,
        `end_byte`, `text`, `vector`."""
        ...

    async def create(self, connection: AsyncConnection, space: Space) -> None:
        """Makes the tables of a new collection. Raises InvalidArgument where the vectors are too
        long for this database."""
        ...

    async def drop(self, connection: AsyncConnection, space: Space) -> None:
        """Drops a collection's tables."""
        ...

    async def remove(
        self, connection: AsyncConnection, space: Space, spans: Sequence[Span]
    ) -> None:
        """Removes chunks. `space` is as it is after the change; so in `add`."""
        ...

    async def add(
        self, connection: AsyncConnection, space: Space, rows: Sequence[ChunkRow]
    ) -> None:
        """Adds chunks."""
        ...

    async def nearest(
        self, connection: AsyncConnection, scope: Scope, vector: Vector, limit: int, *, exact: bool
    ) -> Sequence[Ranked]:
        """Returns the nearest chunks, nearest first; fewer than `limit` only where there are no
        more. Where several are as near as each other they go by ID of document and position."""
        ...

    async def matching(
        self, connection: AsyncConnection, scope: Scope, words: Sequence[str], limit: int
    ) -> Sequence[Ranked]:
        """Returns chunks with any of these words, best first by BM25; else as `nearest`."""
        ...
