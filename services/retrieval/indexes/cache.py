"""Matrices of collections, kept in memory as long as there is room."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from services.retrieval.indexes.matrix import Matrix, View, row_bytes
from services.retrieval.indexes.port import Moved, Space

Bring = Callable[[Matrix | None], Awaitable[Matrix]]
"""Brings a matrix up to date, or makes it; never leaves one half changed while it waits."""


class MatrixCache:
    """Keeps the matrices that were used last, up to a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._matrices: OrderedDict[int, Matrix] = OrderedDict()
        self._turns: dict[int, asyncio.Lock] = {}

    def fits(self, space: Space) -> bool:
        """Whether a collection may be held at all."""
        return space.chunk_count * row_bytes(space.dimensions) <= self._most_bytes

    async def view(self, space: Space, bring: Bring) -> View:
        """Returns the vectors of a collection at the state that `space` tells.

        Raises:
            Moved: another search has seen a later state.
        """
        matrix = self._matrices.get(space.key)
        if matrix is None or matrix.sequence < space.sequence:
            async with self._turns.setdefault(space.key, asyncio.Lock()):
                matrix = self._matrices.get(space.key)
                if matrix is None or matrix.sequence < space.sequence:
                    matrix = await bring(matrix)
                    matrix.sequence = space.sequence
                    self._matrices[space.key] = matrix
                    self._evict(space.key)
        if matrix.sequence > space.sequence:
            raise Moved
        if space.key in self._matrices:
            self._matrices.move_to_end(space.key)
        return matrix.view()

    def _evict(self, spared: int) -> None:
        total = sum(matrix.bytes for matrix in self._matrices.values())
        for key in [key for key in self._matrices if key != spared]:
            if total <= self._most_bytes:
                return
            total -= self._matrices.pop(key).bytes

    def forget(self, key: int) -> None:
        """Lets go of a collection."""
        self._matrices.pop(key, None)
        self._turns.pop(key, None)
