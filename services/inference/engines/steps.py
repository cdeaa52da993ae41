"""What an engine computes in one step."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from services.inference.engines.sequences import SequenceState

SCORED_TOKENS_PER_STEP = 128
"""A scored prompt needs the logits of all its positions at once, so it goes in smaller parts."""


class Phase(Enum):
    """What a forward pass is for."""

    DECODE = "decode"
    """One token of each sequence."""
    PREFILL = "prefill"
    """Parts of prompts; logits of the last position only."""
    SCORE = "score"
    """A part of one prompt; logits of every position."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `start + count` of a sequence."""

    sequence: SequenceState
    start: int
    count: int

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + self.count

    @property
    def completes(self) -> bool:
        """True when the next token can be chosen after it."""
        return self.end == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """Spans that share a forward pass."""

    phase: Phase
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The forward passes of one step."""

    batches: tuple[Batch, ...]
    resident: frozenset[int]
    """Keys of all sequences that keep memory; memory of any other is to be given back."""


def plan_batches(sequences: Iterable[SequenceState], prefill_tokens: int) -> tuple[Batch, ...]:
    """Makes at most two batches: one of prompts, of at most `prefill_tokens` tokens with padding,
    and one of all sequences that are past their prompt. So a long prompt takes several steps and
    does not keep the others waiting.
    """
    decode: list[Span] = []
    waiting: list[SequenceState] = []
    for sequence in sequences:
        if len(sequence.tokens) - sequence.computed == 1:
            decode.append(Span(sequence, sequence.computed, 1))
        else:
            waiting.append(sequence)
    batches: list[Batch] = []
    if waiting:
        batches.append(_prompt_batch(waiting, prefill_tokens))
    if decode:
        batches.append(Batch(Phase.DECODE, tuple(decode)))
    return tuple(batches)


def _prompt_batch(waiting: list[SequenceState], prefill_tokens: int) -> Batch:
    first = waiting[0]
    if first.scoring:
        size = min(prefill_tokens, SCORED_TOKENS_PER_STEP)
        return Batch(Phase.SCORE, (_span(first, size),))
    spans: list[Span] = []
    widest = 0
    for sequence in waiting:
        span = _span(sequence, prefill_tokens)
        width = max(widest, span.count)
        if sequence.scoring or (spans and (len(spans) + 1) * width > prefill_tokens):
            break
        spans.append(span)
        widest = width
    return Batch(Phase.PREFILL, tuple(spans))


def _span(sequence: SequenceState, most: int) -> Span:
    return Span(sequence, sequence.computed, min(len(sequence.tokens) - sequence.computed, most))
