"""Attention memory: rows of columns, which sequences' tokens are written into and read from.

Per layer, keys and values are `[rows, kv_heads, columns + 1, head_dim]`. The last column takes what
padding writes; no forward pass reads it. Which row is whose is kept elsewhere (`kv_pool`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from services.inference.engines.memory_ops import (
    CopyRow,
    Kept,
    MemoryOperation,
    Resize,
    SwapRows,
)


class Placement:
    """Where the running forward pass writes and what it reads."""

    def __init__(self, rows: Tensor, positions: Tensor, length: int, span: slice | None) -> None:
        self._targets: dict[int, Tensor] = {}
        self.rows = rows
        """`[batch, 1]`, row of each sequence."""
        self.positions = positions
        """`[batch, queries]`, column of each token."""
        self.length = length
        """Columns that are read."""
        self.span = span
        """The rows as a slice where they are consecutive: then nothing is copied."""

    def targets(self, heads: int, columns: int) -> Tensor:
        """Where `[batch, heads, queries]` go in `[rows × heads × columns]`; the same each layer."""
        targets = self._targets.get(heads)
        if targets is None:
            head = torch.arange(heads, device=self.rows.device)[None, :, None]
            rows = (self.rows[:, None] * heads + head) * columns
            targets = self._targets[heads] = (rows + self.positions[:, None]).flatten()
        return targets


class SlotLayer(CacheLayerMixin):
    """One layer's rows."""

    def __init__(self, owner: "SlotCache") -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._owner = owner
        self.bytes_per_token = 0
        """Bytes of one column of one row; known after the first states came."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Takes number type, device, heads and size from the first states that come."""
        self.keys = self._empty(key_states)
        self.values = self._empty(value_states)
        self.is_initialized = True
        self.bytes_per_token = sum(
            states.shape[1] * states.shape[3] * states.element_size()
            for states in (key_states, value_states)
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes `[batch, kv_heads, queries, head_dim]`; returns as much with `length` queries."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        place = self._owner.placement
        targets = place.targets(key_states.shape[1], self.keys.shape[2])
        for memory, states in ((self.keys, key_states), (self.values, value_states)):
            size = states.shape[3]
            memory.view(-1, size).index_copy_(0, targets, states.reshape(-1, size))
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

    def states(self) -> tuple[Tensor, ...]:
        """Keys and values, once there are any."""
        return tuple(states for states in (self.keys, self.values) if states is not None)

    def resize(self, kept: Sequence[Kept]) -> None:
        """Takes the owner's shape, keeping these rows. One tensor at a time exists twice."""
        if self.keys is not None:
            self.keys = self._resized(self.keys, kept)
        if self.values is not None:
            self.values = self._resized(self.values, kept)

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
        # Zeros: what a mask hides is still multiplied, and must be a number.
        rows, columns = self._owner.shape
        return states.new_zeros((rows, states.shape[1], columns + 1, states.shape[3]))

    def _resized(self, states: Tensor, kept: Sequence[Kept]) -> Tensor:
        resized = self._empty(states)
        for row in kept:
            resized[row.target, :, : row.length] = states[row.source, :, : row.length]
        return resized


class SlotCache(Cache):
    """All layers' rows. Does what it is told."""

    def __init__(self, layers: int) -> None:
        self._slots = [SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._slots))
        self._rows = 0
        self._columns = 0
        self._generation = 0
        self.placement = Placement(torch.empty(0), torch.empty(0), 0, None)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, without the one for padding."""
        return self._rows, self._columns

    @property
    def generation(self) -> int:
        """Counts resizes: after one, the memory is elsewhere."""
        return self._generation

    @property
    def ready(self) -> bool:
        """Whether there is memory: the first pass after a resize that keeps nothing makes it."""
        return all(layer.is_initialized for layer in self._slots)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one column of one row, over all layers; 0 before the first forward pass."""
        return sum(layer.bytes_per_token for layer in self._slots)

    def carry_out(self, operations: Iterable[MemoryOperation]) -> None:
        """Changes the memory, in this order."""
        for operation in operations:
            match operation:
                case Resize():
                    self._resize(operation)
                case CopyRow(source, target, length):
                    for states in self._states():
                        states[target, :, :length] = states[source, :, :length]
                case SwapRows(first, first_length, second, second_length):
                    for states in self._states():
                        kept = states[first, :, :first_length].clone()
                        states[first, :, :second_length] = states[second, :, :second_length]
                        states[second, :, :first_length] = kept

    def place(self, places: Sequence[int], positions: Tensor, length: int) -> None:
        """Prepares a forward pass.

        Args:
            places: the sequences' rows, in the order of the batch.
            positions: `[batch, queries]`, column of each token; padding's is the last one.
            length: columns that the pass reads.
        """
        span = slice(places[0], places[0] + len(places))
        self.placement = Placement(
            torch.tensor(places, device=positions.device)[:, None],
            positions,
            length,
            span if list(places) == list(range(span.start, span.stop)) else None,
        )

    def place_first(self, columns: Tensor, length: int) -> None:
        """Prepares a pass over the first rows without a look at what is in `columns`.

        Args:
            columns: `[batch, 1]`, column that each row writes; padding's is the last one.
            length: columns that the pass reads.
        """
        rows = torch.arange(len(columns), device=columns.device)[:, None]
        self.placement = Placement(rows, columns, length, slice(0, len(columns)))

    def _states(self) -> Iterable[Tensor]:
        for layer in self._slots:
            yield from layer.states()

    def _resize(self, resize: Resize) -> None:
        self._rows, self._columns = resize.rows, resize.columns
        self._generation += 1
        for layer in self._slots:
            if resize.kept:
                layer.resize(resize.kept)
            else:  # made anew with the next states
                layer.release()
