"""The vectors of a collection in memory, searched all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retrieval.indexes.metrics import norms, precise, rough
from services.retrieval.indexes.port import Span
from services.retrieval.records import Metric, Vector

_SMALLEST = 256
_SPARSE = 4
"""Where fewer than one row in so many is wanted, only those are compared."""
_BLOCK = 4096

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class View:
    """A matrix at one moment; later changes of the matrix don't show."""

    ids: NDArray[np.int64]  # [n], ascending
    documents: NDArray[np.int64]  # [n]
    vectors: NDArray[np.float32]  # [n, d]
    lengths: NDArray[np.float32]  # [n]
    alive: NDArray[np.bool_]  # [n]

    def rows_of(self, first: Rows, count: Rows) -> Rows:
        """Returns the rows of chunks that follow each other, many times over."""
        begin = np.searchsorted(self.ids, first)
        sizes = np.searchsorted(self.ids, first + count) - begin
        shifts = np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
        return (np.arange(int(sizes.sum())) + shifts).astype(np.int64)

    def nearest(
        self, metric: Metric, query: Vector, limit: int, wanted: Rows | None = None
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Returns rows and distances, nearest first: `limit` and those level with the last."""
        rows = self._rows(wanted)
        if rows is None:
            values, error = rough(metric, self.vectors, self.lengths, query)
            values = np.where(self.alive, values, np.float32(np.inf))
            alive = int(np.count_nonzero(self.alive))
        else:
            values, error = rough(metric, self.vectors[rows], self.lengths[rows], query)
            alive = len(rows)
        if not alive:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        near = _candidates(values, min(limit, alive), 2 * error)
        near: Rows = near[self.alive[near]] if rows is None else rows[near]
        distances = np.concatenate(
            [
                precise(metric, self.vectors[near[at : at + _BLOCK]], query)
                for at in range(0, len(near), _BLOCK)
            ]
        )
        order = np.argsort(distances, kind="stable")
        near, distances = near[order], distances[order]
        if len(near) > limit:
            end = int(np.searchsorted(distances, float(distances[limit - 1]), side="right"))
            near, distances = near[:end], distances[:end]
        return near, distances

    def _rows(self, wanted: Rows | None) -> Rows | None:
        """Returns rows to compare one by one; None for all that live."""
        if wanted is not None:
            return wanted[self.alive[wanted]]
        live = int(np.count_nonzero(self.alive))
        return np.flatnonzero(self.alive) if live * _SPARSE < len(self.alive) else None


def _candidates(values: NDArray[np.float32], limit: int, margin: float) -> Rows:
    """Returns the positions of the smallest, and of all that may be among them if each value may
    be off by half the margin. What is no number may be anything."""
    if limit < len(values):
        last = float(np.partition(values, limit - 1)[limit - 1])
        if np.isfinite(last):
            return np.flatnonzero(~(values > last + margin))
    return np.arange(len(values))


class Matrix:
    """The vectors of a collection, kept up to date by what changed."""

    def __init__(self, dimensions: int, room: int = 0) -> None:
        self.sequence = -1
        """State of the collection that this is of."""
        self._dimensions = dimensions
        self._count = 0
        self._reserve(max(room, _SMALLEST))

    def _reserve(self, room: int) -> None:
        kept = self.view() if self._count else None
        self._ids = np.zeros(room, np.int64)
        self._documents = np.zeros(room, np.int64)
        self._vectors = np.zeros((room, self._dimensions), np.float32)
        self._lengths = np.zeros(room, np.float32)
        self._alive = np.zeros(room, np.bool_)
        self._count = 0
        if kept is not None:
            self._append(kept, kept.alive)

    def _append(self, rows: View, chosen: NDArray[np.bool_]) -> None:
        start, end = self._count, self._count + int(np.count_nonzero(chosen))
        self._ids[start:end] = rows.ids[chosen]
        self._documents[start:end] = rows.documents[chosen]
        self._vectors[start:end] = rows.vectors[chosen]
        self._lengths[start:end] = rows.lengths[chosen]
        self._alive[start:end] = True
        self._count = end

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return len(self._ids) * row_bytes(self._dimensions)

    @property
    def last(self) -> int:
        """The last chunk that was added; 0 for none."""
        return int(self._ids[self._count - 1]) if self._count else 0

    def view(self) -> View:
        """Returns what there is now."""
        end = self._count
        return View(
            self._ids[:end],
            self._documents[:end],
            self._vectors[:end],
            self._lengths[:end],
            self._alive[:end],
        )

    def remove(self, spans: Sequence[Span]) -> None:
        """Forgets chunks; unknown ones are passed over."""
        if not spans or not self._count:
            return
        first = np.array([span.first for span in spans], np.int64)
        count = np.array([span.length for span in spans], np.int64)
        # Views share the array, so it is replaced.
        alive = self._alive.copy()
        alive[self.view().rows_of(first, count)] = False
        self._alive = alive

    def add(self, ids: Sequence[int], documents: Sequence[int], vectors: Sequence[Vector]) -> None:
        """Adds chunks whose IDs are larger than all before."""
        if not ids:
            return
        end = self._count + len(ids)
        if end > len(self._ids):
            # What is dead is left out, so the array grows with what lives.
            live = int(np.count_nonzero(self._alive))
            self._reserve(max(_SMALLEST, (live + len(ids)) * 5 // 4))
        added = np.stack(vectors).astype(np.float32, copy=False)
        rows = View(
            np.asarray(ids, np.int64),
            np.asarray(documents, np.int64),
            added,
            norms(added),
            np.ones(len(ids), np.bool_),
        )
        self._append(rows, rows.alive)


def row_bytes(dimensions: int) -> int:
    """Memory that a chunk takes."""
    return 4 * dimensions + 8 + 8 + 4 + 1
