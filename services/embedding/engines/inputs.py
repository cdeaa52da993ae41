"""Checks of what an engine is asked to compute."""

from collections.abc import Sequence

from services.embedding.engine import EncoderInfo, Tokens
from services.errors import InvalidArgument, Unsupported


def check_encodes(info: EncoderInfo) -> None:
    """Refuses vectors of a cross-encoder."""
    if info.scores_pairs:
        raise Unsupported(
            "This model is a cross-encoder: it scores pairs and makes no vectors. Use an "
            "embedding model."
        )


def check_scores(info: EncoderInfo) -> None:
    """Refuses scores of a model that makes vectors."""
    if not info.scores_pairs:
        raise Unsupported(
            "This model makes vectors and does not score pairs: use a cross-encoder, or compare "
            "vectors."
        )


def check_inputs(info: EncoderInfo, batch: Sequence[Tokens]) -> None:
    """Refuses inputs that the model can't take.

    Raises:
        InvalidArgument: one is empty, too long, or has a token outside the vocabulary.
    """
    for index, tokens in enumerate(batch):
        _check(info, tokens, f"inputs[{index}]")


def _check(info: EncoderInfo, tokens: Tokens, field: str) -> None:
    count = len(tokens.ids)
    if not count:
        raise InvalidArgument("An input has no tokens: give it at least one.", field=field)
    if count > info.context_length:
        raise InvalidArgument(
            f"An input has {count} tokens, and this model takes {info.context_length}: shorten it.",
            field=field,
        )
    least, most = min(tokens.ids), max(tokens.ids)
    if least < 0 or most >= info.vocabulary_size:
        raise InvalidArgument(
            f"Token ID {least if least < 0 else most} is outside the vocabulary: IDs go from 0 to "
            f"{info.vocabulary_size - 1}.",
            field=field,
        )
    if tokens.ignored >= count:
        raise InvalidArgument("An input is nothing but its prefix: give it a text.", field=field)
    if tokens.second_from is not None and not 0 < tokens.second_from <= count:
        raise InvalidArgument("The second text of a pair begins outside of it.", field=field)
