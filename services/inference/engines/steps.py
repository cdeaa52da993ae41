"""What an engine computes in one step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.inference.engines.memory_ops import MemoryOperation
from services.inference.engines.sequences import SequenceState

SCORED_TOKENS_PER_STEP = 128
"""A scored prompt needs the logits of all its positions at once, so it goes in smaller parts."""
LEAST_PREFILL = 16
"""Tokens that go to prompts however many sequences decode, so that prompts always get on."""
CHEAP_PADDING = 64
"""Padding tokens that cost less than one more forward pass."""


class Phase(Enum):
    """What a forward pass is for."""

    DECODE = "decode"
    """One token of each sequence, and what was drafted after it; logits of every position."""
    PREFILL = "prefill"
    """Parts of prompts; logits of the last position only."""
    SCORE = "score"
    """A part of one prompt; logits of every position."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `start + count` of a sequence; the last may be drafted."""

    sequence: SequenceState
    start: int
    count: int
    place: int
    """Place of its row. Of the step, not of the sequence: that may lose its row meanwhile."""
    draft: tuple[int, ...] = ()
    """Its last tokens where they are guesses, not the sequence's own."""

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + self.count

    @property
    def own(self) -> int:
        """Position after the last token that is the sequence's own."""
        return self.end - len(self.draft)

    @property
    def tokens(self) -> list[int]:
        """What is computed. Before a step's tokens are accepted."""
        return [*self.sequence.tokens[self.start : self.own], *self.draft]

    @property
    def completes(self) -> bool:
        """True when the next token can be chosen after it."""
        return self.own == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """Spans that share a forward pass."""

    phase: Phase
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.spans) * max(span.count for span in self.spans)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do to the memory, and the forward passes after it."""

    operations: tuple[MemoryOperation, ...]
    batches: tuple[Batch, ...]
    resident: frozenset[int]
    """Keys of all sequences that have a row; what is kept for any other is to be given up."""


def decode_batch(
    sequences: Iterable[SequenceState], drafts: Mapping[int, Sequence[int]]
) -> tuple[Batch, ...]:
    """The batch of sequences that lack one token each, in the order of their rows.

    `drafts` are by key, for some of them.
    """
    spans: list[Span] = []
    for sequence in sequences:
        if sequence.row is not None:
            draft = tuple(drafts.get(sequence.key, ()))
            row = sequence.row
            spans.append(Span(sequence, row.length, 1 + len(draft), row.place, draft))
    spans.sort(key=_place)
    return (Batch(Phase.DECODE, tuple(spans)),) if spans else ()


def prompt_batches(waiting: Iterable[SequenceState], budget: int) -> tuple[Batch, ...]:
    """Batches of prompts, in the order given, of at most `budget` tokens with padding.

    A long prompt takes several steps, so it doesn't keep those waiting that decode beside it. Parts
    of about the same size share a pass.
    """
    batches: list[Batch] = []
    spans: list[Span] = []  # of the pass that can still take more
    for sequence in waiting:
        if budget <= 0:
            break
        if sequence.scoring:
            span = _span(sequence, min(budget, SCORED_TOKENS_PER_STEP))
            batches.append(Batch(Phase.SCORE, (span,)))
            budget -= span.count
            continue
        width = max((span.count for span in spans), default=0)
        span = _span(sequence, budget)
        cost = (len(spans) + 1) * max(width, span.count) - len(spans) * width
        if spans and cost <= budget and cost - span.count <= max(CHEAP_PADDING, span.count // 2):
            budget -= cost
            spans.append(span)
            continue
        if spans:
            batches.append(Batch(Phase.PREFILL, tuple(spans)))
        spans = [span]
        budget -= span.count
    if spans:
        batches.append(Batch(Phase.PREFILL, tuple(spans)))
    return tuple(batches)


def _span(sequence: SequenceState, most: int) -> Span:
    assert sequence.row is not None
    return Span(sequence, sequence.computed, min(sequence.missing, most), sequence.row.place)


def _place(span: Span) -> int:
    return span.place
