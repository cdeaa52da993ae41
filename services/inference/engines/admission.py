"""What an engine takes on: the checks of a group before it is queued."""

from dataclasses import dataclass

from services.errors import ContextLengthExceeded, InvalidArgument
from services.inference.engine import GroupRequest, SequenceRequest


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

    @property
    def capacity(self) -> int:
        """Most sequences, running and waiting."""
        return self.slots + self.queue_limit


def check_group(group: GroupRequest, limits: Limits) -> None:
    """Refuses what could never run.

    Raises:
        ContextLengthExceeded: a prompt leaves no room for one token.
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
    if min(sequence.prompt) < 0 or max(sequence.prompt) >= limits.vocabulary_size:
        raise _outside("prompt", limits)
    for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        if any(not 0 <= token_id < limits.vocabulary_size for token_id in ids):
            raise _outside(name, limits)


def _outside(field: str, limits: Limits) -> InvalidArgument:
    return InvalidArgument(
        f"A token ID in `{field}` is outside the vocabulary: IDs go from 0 to "
        f"{limits.vocabulary_size - 1}.",
        field=field,
    )
