"""What an engine takes on: the checks of a group before it is queued."""

from dataclasses import dataclass

from services.errors import ContextLengthExceeded, InvalidArgument
from services.inference.engine import GroupRequest, SequenceRequest
from services.inference.engines.kv_pool import PoolLimits, rounded

ROWS_PER_SLOT = 4
"""Rows of attention memory for each sequence that can run, most of them kept for reuse."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine."""

    slots: int
    """Sequences that run at once."""
    queue_limit: int
    """Sequences that may wait."""
    context_length: int
    """Most tokens of prompt and output together."""
    vocabulary_size: int
    kv_tokens: int = 0
    """Tokens that the attention memory holds. 0: a whole context for each sequence that runs."""
    reuse: bool = True
    """Whether attention state is shared between sequences."""

    @property
    def pool(self) -> PoolLimits:
        """Bounds of the attention memory."""
        columns = rounded(self.context_length)
        return PoolLimits(
            tokens=self.kv_tokens or self.slots * (columns + 1),
            rows=self.slots * (ROWS_PER_SLOT if self.reuse else 1),
            columns=columns,
        )

    @property
    def capacity(self) -> int:
        """Most sequences, running and waiting."""
        return self.slots + self.queue_limit


def check_group(group: GroupRequest, limits: Limits) -> None:
    """Refuses what could never run.

    Raises:
        ContextLengthExceeded: a prompt leaves no room for one token, or the attention memory could
            never hold prompt and output.
        InvalidArgument: there is nothing to do, too much, or a token ID is outside the vocabulary.
    """
    size = len(group.sequences)
    if size == 0:
        raise InvalidArgument("The request asks for no sequence; ask for at least one.")
    if size > limits.capacity:
        raise InvalidArgument(
            f"The request asks for {size} sequences, but this model takes at most "
            f"{limits.capacity} at a time: send fewer prompts or choices at once."
        )
    for sequence in group.sequences:
        _check_sequence(sequence, limits)


def sequence_limit(sequence: SequenceRequest, context_length: int) -> int:
    """Tokens that a sequence may generate."""
    return min(sequence.params.max_tokens, context_length - len(sequence.prompt))


def _check_sequence(sequence: SequenceRequest, limits: Limits) -> None:
    params = sequence.params
    if not sequence.prompt:
        raise InvalidArgument("The prompt has no tokens; give it at least one.", field="prompt")
    length = len(sequence.prompt)
    room = limits.context_length - length
    if room < 0 or (room == 0 and params.max_tokens > 0):
        raise ContextLengthExceeded(
            f"This model's context holds {limits.context_length} tokens, prompt and output "
            f"together, but the prompt has {length}: shorten it.",
            metadata={"context_length": str(limits.context_length), "prompt_tokens": str(length)},
        )
    _check_memory(length, sequence_limit(sequence, limits.context_length), limits)
    if min(sequence.prompt) < 0 or max(sequence.prompt) >= limits.vocabulary_size:
        raise _outside("prompt", limits)
    for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        if any(not 0 <= token_id < limits.vocabulary_size for token_id in ids):
            raise _outside(name, limits)


def _check_memory(prompt: int, limit: int, limits: Limits) -> None:
    tokens = limits.pool.tokens
    needed = rounded(prompt + limit) + 1  # one more for padding
    if needed > tokens:
        raise ContextLengthExceeded(
            f"The prompt has {prompt} tokens and {limit} may follow: with rounding that takes "
            f"{needed} tokens of attention memory, but this model was given {tokens}. Shorten the "
            f"prompt, ask for fewer tokens, or raise kv_cache_bytes.",
            metadata={"kv_tokens": str(tokens), "needed_tokens": str(needed)},
        )


def _outside(field: str, limits: Limits) -> InvalidArgument:
    return InvalidArgument(
        f"A token ID in `{field}` is outside the vocabulary: IDs go from 0 to "
        f"{limits.vocabulary_size - 1}.",
        field=field,
    )
