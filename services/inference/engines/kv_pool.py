"""Keeps the books of the attention memory: which row is whose, and what is in it. No torch.

The memory is `rows` × `columns` tokens (and one column for padding), within a fixed number of
tokens. Rows that their sequences have left stay, as a cache of prefixes, until their place is
needed; those not used for longest go first.

Books are ahead of the memory: they show it as it is once the operations are carried out.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.engines.memory_ops import (
    CopyRow,
    Kept,
    MemoryOperation,
    Resize,
    SwapRows,
)
from services.inference.engines.prefix_index import BLOCK, Find, KvRow, PrefixIndex

COLUMN_QUANTUM = 32
"""Columns come in multiples of this, and passes read multiples of it, so that shapes repeat."""
FIRST_ROWS = 4
FIRST_COLUMNS = 256
WASTE = 4
"""Columns are taken back for more rows when no row needs more than one in this many."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the memory."""

    tokens: int
    """Most tokens, rows × (columns + 1)."""
    rows: int
    """Most rows, in use and kept."""
    columns: int
    """Most columns: the context, rounded up."""


class KvPool:
    """Gives rows to sequences and keeps what they leave."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._places: list[KvRow | None] = []
        self._columns = 0
        self._owned = 0
        self._idle: OrderedDict[KvRow, None] = OrderedDict()  # the one not used for longest first
        self._index = PrefixIndex()
        self._operations: list[MemoryOperation] = []

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, without the one for padding."""
        return len(self._places), self._columns

    @property
    def owned(self) -> int:
        """Rows that sequences have."""
        return self._owned

    @property
    def usage(self) -> float:
        """Share of the memory that sequences have, in [0, 1]."""
        return min(1.0, self._owned * (self._columns + 1) / self._limits.tokens)

    @property
    def rows(self) -> Sequence[KvRow | None]:
        """Rows by place; None where nothing is kept."""
        return self._places

    def take_operations(self) -> tuple[MemoryOperation, ...]:
        """Takes what is to be done to the memory since the last call."""
        operations, self._operations = tuple(self._operations), []
        return operations

    def fits(self, rows: int, columns: int) -> bool:
        """Whether so many rows of so many columns fit, all others gone."""
        return rows <= self.most_rows(columns)

    def most_rows(self, columns: int) -> int:
        """Rows of so many columns that fit, all others gone."""
        if columns > self._limits.columns:
            return 0
        return min(self._limits.rows, self._limits.tokens // (rounded(columns) + 1))

    def forget(self) -> None:
        """Everything in the memory is lost, and all rows were given back."""
        for row in self._idle:
            self._index.note(row, 0)
        self._idle.clear()
        self._places, self._columns = [], 0
        self._operations = [Resize(0, 0)]

    def acquire(
        self, owner: int, tokens: list[int], columns: int, *, reuse: bool, adapter: str = ""
    ) -> KvRow:
        """Gives a row to a sequence that `fits`; it may already hold the first of its tokens.

        Args:
            owner: the sequence's key.
            tokens: its tokens, of which at least the last is left to be computed.
            columns: columns that it needs now.
            reuse: whether it may take over what another one left.
            adapter: what it runs with.
        """
        found = self.find(tokens, adapter) if reuse else None
        if found is not None and found.row.owner is None:
            self._idle.move_to_end(found.row)
        self._make_place(columns)
        free = next((place for place, row in enumerate(self._places) if row is None), None)
        row = self._taken_over(found, free) if found is not None else None
        if row is None:
            if free is None:
                free = self._evict()
            row = KvRow(free, tokens, owner, adapter)
            self._places[free] = row
        row.owner, row.tokens = owner, tokens
        self._owned += 1
        return row

    def find(self, tokens: list[int], adapter: str = "") -> Find | None:
        """The row that holds most of what a sequence could reuse."""
        return self._index.find(tokens, len(tokens) - 1, lambda row: row.length, adapter)

    def promised(
        self, tokens: list[int], owners: frozenset[int] | set[int], adapter: str = ""
    ) -> Find | None:
        """The row among these owners' that will hold most of it soon."""
        return self._index.find(
            tokens, len(tokens) - 1, lambda row: row.promise if row.owner in owners else 0, adapter
        )

    def start(self, row: KvRow, found: Find | None, *, share: bool) -> None:
        """Fills a row with what was found, and lets others know what it is going to hold."""
        if found is not None and found.row is not row and found.length > row.length:
            self._operations.append(CopyRow(found.row.place, row.place, found.length))
            row.length = found.length
            if found.row.owner is None:
                self._idle.move_to_end(found.row)
        if share:
            row.promise = len(row.tokens)
            self._index.note(row, row.promise)

    def release(self, row: KvRow, *, keep: bool) -> None:
        """Takes a row back; what it holds is kept for reuse when that is worth it."""
        self._owned -= 1
        row.owner, row.promise = None, 0
        if keep and row.length >= BLOCK:
            self._index.note(row, row.length)
            self._idle[row] = None
        else:
            self._drop(row)

    def widen(self, columns: int) -> None:
        """Makes room for longer sequences; all that are there must fit."""
        if columns > self._columns:
            self._resize(self._owned, columns)

    def arrange(self, rows: Sequence[KvRow]) -> None:
        """Moves these rows to the first places, so that a pass over them copies nothing."""
        count = len(rows)
        outside = [row for row in rows if row.place >= count]
        if not outside:
            return
        wanted = set(rows)
        holes = [p for p in range(count) if (row := self._places[p]) is None or row not in wanted]
        for hole, row in zip(holes, outside, strict=True):
            self._swap(row, hole)

    # Places.

    def _swap(self, row: KvRow, place: int) -> None:
        other, source = self._places[place], row.place
        if other is None or not other.length:
            if row.length:
                self._operations.append(CopyRow(source, place, row.length))
        elif not row.length:
            self._operations.append(CopyRow(place, source, other.length))
        else:
            self._operations.append(SwapRows(source, row.length, place, other.length))
        self._places[place], self._places[source] = row, other
        row.place = place
        if other is not None:
            other.place = source

    def _taken_over(self, found: Find, free: int | None) -> KvRow | None:
        """The found row itself, where using it loses nothing that is worth a copy."""
        row = found.row
        if row.owner is not None or row not in self._idle:
            return None
        lost = row.length - found.length
        if lost > BLOCK and (free is not None or len(self._idle) > 1):
            return None
        del self._idle[row]
        row.length = found.length
        self._index.note(row, row.length)
        return row

    def _evict(self) -> int:
        """Drops the row that was not used for longest; returns its place."""
        row, _ = self._idle.popitem(last=False)
        self._drop(row)
        return row.place

    def _drop(self, row: KvRow) -> None:
        self._index.note(row, 0)
        self._places[row.place] = None
        row.length = 0

    # Shape.

    def _make_place(self, columns: int) -> None:
        """Sees to a place for one more owned row: a free one, or one of a kept row."""
        rows, owned = len(self._places), self._owned + 1
        if columns > self._columns or owned > self.most_rows(self._columns):
            self._resize(owned, columns)
        elif self._owned + len(self._idle) < rows:
            return
        elif rows < self.most_rows(self._columns):
            self._resize(max(owned, rows + 1), columns)
        elif self._columns > FIRST_COLUMNS and self._idle:
            longest = max(row.length for row in self._places if row is not None)
            if max(longest, columns) * WASTE <= self._columns:
                wide = max(FIRST_COLUMNS, rounded(2 * max(longest, columns)))
                self._reshape(rows + 1, wide)

    def _resize(self, rows: int, columns: int) -> None:
        """Grows by doubling, so that copying stays cheap on average, as far as there is room."""
        wide = self._columns
        if columns > wide:
            wide = min(self._limits.columns, rounded(max(columns, 2 * wide, FIRST_COLUMNS)))
        if rows > self.most_rows(wide):
            spare = self._limits.tokens // rows - 1
            wide = max(rounded(columns), spare - spare % COLUMN_QUANTUM)
        self._reshape(rows, wide)

    def _reshape(self, least: int, columns: int) -> None:
        """Goes to this many columns, with at least so many rows."""
        rows = len(self._places)
        if least > rows:
            rows = max(least, 2 * rows, FIRST_ROWS)
        rows = max(least, min(rows, self.most_rows(columns)))
        while self._owned + len(self._idle) > rows:
            self._evict()
        rest = [row for row in self._places if row is not None]
        moved = [row for row in rest if row.place >= rows]
        taken = {row.place for row in rest}
        free = (place for place in range(rows) if place not in taken)
        targets = {id(row): row.place for row in rest} | {
            id(row): place for row, place in zip(moved, free, strict=False)
        }
        kept: list[Kept] = []
        places: list[KvRow | None] = [None] * rows
        for row in rest:
            row.length = min(row.length, columns)
            target = targets[id(row)]
            if row.length:
                kept.append(Kept(row.place, target, row.length))
            row.place = target
            places[target] = row
            if row.owner is None:
                self._index.note(row, row.length)
        self._places, self._columns = places, columns
        self._operations.append(Resize(rows, columns, tuple(kept)))


def rounded(columns: int) -> int:
    """Columns that are made for so many."""
    return -(-columns // COLUMN_QUANTUM) * COLUMN_QUANTUM
