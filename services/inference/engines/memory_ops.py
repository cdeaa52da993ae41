"""What the pool asks of the attention memory. Torch-free: these travel in a `Step`.

They are carried out in order, before the forward passes of their step.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """A row that outlives a resize: its first `length` columns go from one place to another."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Makes the memory `rows` × `columns`; whatever is not kept is lost."""

    rows: int
    columns: int
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyRow:
    """Copies the first `length` columns of a row over another's."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class SwapRows:
    """Swaps two rows, of which the first columns matter."""

    first: int
    first_length: int
    second: int
    second_length: int


MemoryOperation = Resize | CopyRow | SwapRows
