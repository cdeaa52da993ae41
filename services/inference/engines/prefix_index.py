"""Finds rows that begin with the same tokens.

Each block of tokens has a key made from its tokens and the key of the block before it, so a key
stands for everything up to its block's end. Keys may collide: a find is only reported after its
tokens were compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 16
"""Tokens of a block. Shorter common prefixes are not looked for."""


@dataclass(eq=False, slots=True)
class KvRow:
    """One row of attention memory and what is in it."""

    place: int
    """Where it lies now; rows move."""
    tokens: list[int]
    """Tokens of its columns and those that are still to come; only ever appended to."""
    owner: int | None
    """Key of the sequence that has it; None for a row that is only kept for reuse."""
    adapter: str = ""
    """Adapter that its states were computed with: they are of no use to others."""
    length: int = 0
    """Leading columns that hold the attention state of `tokens`."""
    promise: int = 0
    """Leading tokens that it will hold when its owner has read its prompt."""
    keys: list[int] = field(default_factory=list[int])
    """Keys of the blocks that the index knows."""


@dataclass(frozen=True, slots=True)
class Find:
    """A row and how many of its leading tokens can be shared."""

    row: KvRow
    length: int


class PrefixIndex:
    """Rows by the keys of their blocks."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[KvRow, None]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, row: KvRow, length: int) -> None:
        """Makes the whole blocks among a row's first `length` tokens known, and no others."""
        blocks = length // BLOCK
        while len(row.keys) > blocks:
            self._forget(row, row.keys.pop())
        for block in range(len(row.keys), blocks):
            before = row.keys[-1] if row.keys else hash(row.adapter)
            key = _key(before, row.tokens, block)
            row.keys.append(key)
            self._rows.setdefault(key, {})[row] = None

    def find(
        self, tokens: list[int], most: int, length_of: Callable[[KvRow], int], adapter: str = ""
    ) -> Find | None:
        """Finds the row of an adapter with the longest common prefix of at most `most` tokens.

        `length_of` says how many of a row's leading tokens count.
        """
        refuted: set[KvRow] = set()
        while (best := self._best(tokens, most, length_of, refuted, adapter)) is not None:
            same = best.row.adapter == adapter
            if same and best.row.tokens[: best.length] == tokens[: best.length]:
                return best
            refuted.add(best.row)
        return None

    def _best(
        self,
        tokens: list[int],
        most: int,
        length_of: Callable[[KvRow], int],
        refuted: set[KvRow],
        adapter: str,
    ) -> Find | None:
        """The longest find by keys alone."""
        best: Find | None = None
        seen = set(refuted)
        levels = list(self._levels(tokens, most, adapter))
        for depth in range(len(levels), 0, -1):
            if best is not None and best.length >= (depth + 1) * BLOCK:
                break
            for row in reversed(levels[depth - 1]):
                if row in seen:
                    continue
                seen.add(row)
                common = _extended(row.tokens, tokens, depth * BLOCK, most)
                length = min(common, length_of(row))
                if length >= BLOCK and (best is None or length > best.length):
                    best = Find(row, length)
        return best

    def _levels(self, tokens: list[int], most: int, adapter: str) -> Iterator[dict[KvRow, None]]:
        """Rows that share the first block, the first two, …"""
        key = hash(adapter)
        for block in range(most // BLOCK):
            key = _key(key, tokens, block)
            rows = self._rows.get(key)
            if rows is None:
                return
            yield rows

    def _forget(self, row: KvRow, key: int) -> None:
        rows = self._rows[key]
        rows.pop(row, None)
        if not rows:
            del self._rows[key]


def _key(before: int, tokens: list[int], block: int) -> int:
    return hash((before, *tokens[block * BLOCK : (block + 1) * BLOCK]))


def _extended(row: list[int], tokens: list[int], common: int, most: int) -> int:
    """How far two token lists agree that agree up to `common`."""
    end = min(len(row), most)
    while common < end and row[common] == tokens[common]:
        common += 1
    return common
