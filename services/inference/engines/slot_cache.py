"""Attention memory: one row per sequence, grown as sequences and lengths need it.

Per layer, keys and values are `[rows, kv_heads, length + 1, head_dim]`. The last column takes what
padding writes; no forward pass reads it.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

ROW_STEP = 4
LENGTH_STEP = 256


class Placement:
    """Where the running forward pass writes and what it reads."""

    def __init__(self, rows: Tensor, positions: Tensor, length: int, span: slice | None) -> None:
        self.rows = rows
        """`[batch, 1]`, row of each sequence."""
        self.positions = positions
        """`[batch, queries]`, column of each token."""
        self.length = length
        """Columns that are read."""
        self.span = span
        """The rows as a slice where they are consecutive: then nothing is copied."""


class SlotLayer(CacheLayerMixin):
    """One layer's rows."""

    def __init__(self, owner: "SlotCache") -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Takes number type, device, heads and size from the first states that come."""
        self.keys = self._empty(key_states)
        self.values = self._empty(value_states)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes `[batch, kv_heads, queries, head_dim]`; returns as much with `length` queries."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        place = self._owner.placement
        self.keys[place.rows, :, place.positions] = key_states.transpose(1, 2)
        self.values[place.rows, :, place.positions] = value_states.transpose(1, 2)
        if place.span is not None:
            return (
                self.keys[place.span, :, : place.length],
                self.values[place.span, :, : place.length],
            )
        rows = place.rows[:, 0]
        return (
            self.keys[rows, :, : place.length],
            self.values[rows, :, : place.length],
        )

    def resize(self, rows: int, columns: int) -> None:
        """Makes room, keeping what is there."""
        self.keys = _grown(self.keys, rows, columns)
        self.values = _grown(self.values, rows, columns)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copies the first columns of a row."""
        for states in (self.keys, self.values):
            if states is not None:
                states[target, :, :length] = states[source, :, :length]

    def swap_rows(self, first: int, second: int, length: int) -> None:
        """Swaps the first columns of two rows."""
        for states in (self.keys, self.values):
            if states is not None:
                kept = states[first, :, :length].clone()
                states[first, :, :length] = states[second, :, :length]
                states[second, :, :length] = kept

    def release(self) -> None:
        """Gives the memory back."""
        self.keys = self.values = None
        self.is_initialized = False

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not asked for: masks are made by the runner."""
        return self._owner.placement.length, 0

    def get_seq_length(self) -> int:
        """Not asked for: positions are given by the runner."""
        return 0

    def get_max_length(self) -> int:
        """Grows without a bound of its own."""
        return -1

    def _empty(self, states: Tensor) -> Tensor:
        rows, columns = self._owner.shape
        return states.new_zeros((rows, states.shape[1], columns, states.shape[3]))


class SlotCache(Cache):
    """All layers' rows, and which sequence has which."""

    def __init__(self, layers: int, max_rows: int, max_length: int) -> None:
        self._slots = [SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._slots))
        self._max_rows = max_rows
        self._max_length = max_length
        self._rows: dict[int, int] = {}  # sequence key → row
        self._row_count = 0
        self._length = 0
        self.placement = Placement(torch.empty(0), torch.empty(0), 0, None)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, with the one for padding."""
        return self._row_count, self._length + 1

    @property
    def resident(self) -> Collection[int]:
        """Keys of the sequences that have a row."""
        return self._rows.keys()

    def retain(self, keys: Collection[int]) -> None:
        """Frees the rows of all other sequences; without any left, memory that has grown too."""
        for key in self._rows.keys() - set(keys):
            del self._rows[key]
        if not self._rows and (self._row_count > ROW_STEP or self._length > LENGTH_STEP):
            self.release()

    def release(self) -> None:
        """Gives all memory back."""
        self._rows.clear()
        for layer in self._slots:
            layer.release()
        self._row_count = self._length = 0

    def place(self, keys: Sequence[int], positions: Tensor, pad: Tensor, length: int) -> None:
        """Prepares a forward pass.

        Args:
            keys: the sequences, in the order of the batch.
            positions: `[batch, queries]`, position of each token.
            pad: `[batch, queries]`, true for padding.
            length: columns that the pass reads.
        """
        new = [key for key in keys if key not in self._rows]
        self._reserve(len(self._rows) + len(new), length)
        taken = set(self._rows.values())
        free = (row for row in range(self._row_count) if row not in taken)
        self._rows.update(zip(new, free, strict=False))
        rows = [self._rows[key] for key in keys]
        span = slice(rows[0], rows[0] + len(rows))
        self.placement = Placement(
            torch.tensor(rows, device=positions.device)[:, None],
            positions.masked_fill(pad, self._length),
            length,
            span if rows == list(range(span.start, span.stop)) else None,
        )

    def compact(self, keys: Collection[int], length: int) -> list[int]:
        """Moves these sequences to the first rows, so that a pass over them copies nothing.

        Returns them in the order of their rows. Costs something only when sequences come and go.
        """
        wanted = set(keys) & self._rows.keys()
        owners = {row: key for key, row in self._rows.items()}
        holes = [row for row in range(len(wanted)) if owners.get(row) not in wanted]
        outside = sorted(
            row for key, row in self._rows.items() if key in wanted and row >= len(wanted)
        )
        for hole, row in zip(holes, outside, strict=True):
            self._move(row, hole, owners, length)
        return sorted(keys, key=lambda key: self._rows.get(key, self._max_rows))

    def _move(self, row: int, hole: int, owners: dict[int, int], length: int) -> None:
        other = owners.get(hole)
        for layer in self._slots:
            if other is None:
                layer.copy_row(row, hole, length)
            else:
                # The other one may be longer than those that are moved.
                layer.swap_rows(row, hole, self._length)
        self._rows[owners[row]] = hole
        if other is not None:
            self._rows[other] = row

    def _reserve(self, rows: int, length: int) -> None:
        """Grows by doubling, so that copying stays cheap on average."""
        new_rows, new_length = self._row_count, self._length
        if rows > new_rows:
            new_rows = max(rows, min(self._max_rows, max(2 * new_rows, ROW_STEP)))
        if length > new_length:
            new_length = max(length, min(self._max_length, max(2 * new_length, LENGTH_STEP)))
        if (new_rows, new_length) == (self._row_count, self._length):
            return
        self._row_count, self._length = new_rows, new_length
        for layer in self._slots:
            if layer.is_initialized:
                layer.resize(*self.shape)


def _grown(states: Tensor | None, rows: int, columns: int) -> Tensor | None:
    """Copies `[r, h, c, d]` into zeros of `[rows, h, columns, d]`, without the padding's column."""
    if states is None:
        return None
    grown = states.new_zeros((rows, states.shape[1], columns, states.shape[3]))
    kept = min(states.shape[2], columns) - 1
    grown[: states.shape[0], :, :kept] = states[:, :, :kept]
    return grown
