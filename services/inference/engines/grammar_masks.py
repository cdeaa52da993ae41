"""Which tokens a sequence's form allows next, worked out while the device computes."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from services.errors import DomainError, InvalidArgument
from services.inference.engine import SamplingParams

Blocked = NDArray[np.bool_]
"""`[vocabulary]`, true for the tokens that must not come."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What a form allows at one place."""

    blocked: Blocked
    """With the end-of-sequence tokens free where the form is complete."""
    complete: bool
    """The output so far has the form."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledGrammar:
    """A form that is ready. Sequences that share it share what it has worked out at the start."""

    matcher: LLMatcher
    """At the form's start; never moves on. Sequences take copies."""
    first: Mask
    vocabulary_size: int
    ends: Sequence[int]
    """End-of-sequence tokens."""
    field: str
    """Where the form stands in the request."""
    pool: Executor

    def follow(self, output: Sequence[int], params: SamplingParams) -> "GuidedSequence":
        """The state of a sequence after its output so far."""
        return GuidedSequence(self, output, params)


class GuidedSequence:
    """Follows one sequence. Can be made anew from the sequence's output at any time."""

    def __init__(
        self, compiled: CompiledGrammar, output: Sequence[int], params: SamplingParams
    ) -> None:
        self._compiled = compiled
        self._params = params
        self._length = len(output)
        self._matcher: LLMatcher | None = None
        self._mask: Future[Mask] | None = None
        if params.ignore_eos:
            self._mask = Future()
            self._mask.set_exception(
                InvalidArgument(
                    "'sampling.ignore_eos': output can't go on after its form is complete: leave "
                    "it out, or leave the form out.",
                    field="sampling.ignore_eos",
                )
            )
        elif output:
            self._mask = self._advance(list(output))

    def blocked(self) -> Blocked:
        """Waits for the mask of the next token.

        Raises:
            DomainError: no token can follow, or the form has become too much to follow.
        """
        compiled = self._compiled
        mask = compiled.first if self._mask is None else self._mask.result()
        ends, stops = compiled.ends, list(self._params.stop_token_ids)
        early = self._length < self._params.min_tokens
        if not stops and not early:
            return mask.blocked
        blocked = mask.blocked.copy()
        blocked[stops] = not mask.complete
        if early:
            late = blocked.copy()
            late[[*ends, *stops]] = True
            if not late.all():
                return late
        if blocked.all():
            raise _stuck(compiled.field)
        return blocked

    def note(self, token_id: int) -> None:
        """Takes a chosen token, and starts working out what may follow."""
        self._length += 1
        if not (self._mask is not None and self._mask.done() and self._mask.exception()):
            self._mask = self._advance([token_id])

    def _advance(self, tokens: list[int]) -> "Future[Mask]":
        return self._compiled.pool.submit(self._consume, tokens)

    def _consume(self, tokens: list[int]) -> Mask:
        compiled = self._compiled
        if self._matcher is None:
            self._matcher = compiled.matcher.deep_copy()
        if not self._matcher.consume_tokens(tokens):
            raise _stuck(compiled.field)
        return read_mask(self._matcher, compiled.vocabulary_size, compiled.field)


def read_mask(matcher: LLMatcher, vocabulary_size: int, field: str) -> Mask:
    """Works out a mask.

    Raises:
        InvalidArgument: nothing can follow, or following took more work than is allowed.
    """
    try:
        packed = matcher.compute_bitmask()
    except ValueError:
        raise _stuck(field) from None
    if matcher.is_error():
        raise _stuck(field)
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    blocked = bits[:vocabulary_size] == 0
    if len(blocked) < vocabulary_size:
        blocked = np.pad(blocked, (0, vocabulary_size - len(blocked)), constant_values=True)
    if blocked.all():
        raise _stuck(field)
    return Mask(blocked, matcher.is_accepting())


def _stuck(field: str) -> DomainError:
    return InvalidArgument(
        f"'{field}': no token can follow here: the form can't be completed with this model's "
        "vocabulary and the stop tokens, or it takes too much work to follow; simplify it.",
        field=field,
    )
