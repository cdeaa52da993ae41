"""Attention memory that holds tokens instead of tensors, and a model whose next token depends on
every token before it: what is read from a wrong place, or never written, shows."""

from collections.abc import Iterable, Sequence

from services.inference.engines.kv_pool import PoolLimits
from services.inference.engines.memory_ops import CopyRow, MemoryOperation, Resize, SwapRows
from services.inference.engines.steps import Batch, Phase

VOCABULARY = 50


def next_token(tokens: Sequence[int]) -> int:
    """Never 0, which tests use as end of sequence.

    Three in four go on as the prompts of tests do, so that drafts are right sometimes.
    """
    state = 31 * sum(tokens) + 7 * len(tokens)
    return (tokens[-1] + (3 if state % 4 else state // 4) - 1) % (VOCABULARY - 1) + 1


def continuation(prompt: Sequence[int], count: int) -> list[int]:
    """What a sequence gives when nothing else runs."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class SymbolicMemory:
    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.rows: list[list[int | None]] = []
        self.columns = 0
        self.resizes = 0
        self.copied = 0

    def carry_out(self, operations: Iterable[MemoryOperation]) -> None:
        for operation in operations:
            match operation:
                case Resize(rows, columns, kept):
                    assert rows * (columns + 1) <= self.limits.tokens
                    assert rows <= self.limits.rows
                    assert columns <= self.limits.columns
                    assert len({row.target for row in kept}) == len(kept)
                    resized: list[list[int | None]] = [[None] * columns for _ in range(rows)]
                    for row in kept:
                        assert 0 < row.length <= min(columns, self.columns)
                        resized[row.target][: row.length] = self.rows[row.source][: row.length]
                    self.rows, self.columns = resized, columns
                    self.resizes += 1
                case CopyRow(source, target, length):
                    assert 0 < length <= self.columns
                    assert source != target
                    self.rows[target][:length] = self.rows[source][:length]
                    self.copied += length
                case SwapRows(first, first_length, second, second_length):
                    kept_columns = self.rows[first][:first_length]
                    self.rows[first][:second_length] = self.rows[second][:second_length]
                    self.rows[second][:first_length] = kept_columns
                    self.copied += first_length + second_length

    def compute(self, batches: Iterable[Batch]) -> None:
        """Writes and reads like the forward passes of a step."""
        places: list[int] = []
        for batch in batches:
            if batch.phase is Phase.DECODE:
                own = [span.place for span in batch.spans]
                assert own == list(range(len(own))), "a decode pass would copy its rows"
            for span in batch.spans:
                places.append(span.place)
                tokens = [*span.sequence.tokens[: span.own], *span.draft]
                assert span.count > 0
                assert span.end <= self.columns
                self.rows[span.place][span.start : span.end] = span.tokens
                assert self.rows[span.place][: span.end] == tokens
        assert len(set(places)) == len(places), "two spans write one row"
