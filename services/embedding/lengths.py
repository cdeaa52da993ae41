"""Inputs that are too long: refused, or cut at one end."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.embedding.engine import Tokenizer
from services.embedding.requests import Truncation
from services.errors import ContextLengthExceeded

CUT_ADVICE = "Shorten it, or say with 'truncation' which end is kept."

_LONG = 16
"""Characters per token of room beyond which a text is tokenised in part first: ordinary text has
four or five."""
_LEAST_LONG = 16_384
_MARGIN = 64
"""Tokens that may come out otherwise where a text is cut apart."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one input may have, without what the model puts around it."""

    tokens: int
    context_length: int
    """With what is put around it."""
    truncation: Truncation
    most: int | None = None
    """Tokens that are read at most, whatever the truncation says of more than the room."""
    advice: str = CUT_ADVICE

    def fit(self, ids: Sequence[int], field: str) -> tuple[Sequence[int], bool]:
        """Returns what is kept, and whether that is less than there was.

        Raises `ContextLengthExceeded` where too long inputs are refused.
        """
        count = len(ids)
        limit = self.tokens
        if self.most is not None and self.most < count:
            limit = min(limit, self.most)
        if count <= limit:
            return ids, False
        if self._refuses:
            raise self._exceeded(field, count)
        if self.truncation is Truncation.KEEP_END:
            return ids[count - limit :], True
        return ids[:limit], True

    def encode(self, text: Tokenizer, given: str, *, prefix: str, field: str) -> Sequence[int]:
        """Tokens of a text; of a very long one, those at an end that fills the room for sure.

        So megabytes are refused, or cut, without the work of tokenising them all.
        """
        characters = max(_LEAST_LONG, _LONG * self.tokens)
        if len(given) > characters:
            from_end = self.truncation is Truncation.KEEP_END
            part = _tail(given, characters) if from_end else _head(given, characters)
            (ids,) = text.encode([part], prefix="" if from_end else prefix)
            if len(ids) >= self.tokens + _MARGIN:
                if self._refuses:
                    raise self._exceeded(field, self.tokens + _MARGIN - 1, "more than ")
                return ids
        (ids,) = text.encode([given], prefix=prefix)
        return ids

    @property
    def _refuses(self) -> bool:
        """Whether an input that has more than the room is refused."""
        reads_all = self.most is None or self.most > self.tokens
        return reads_all and self.truncation is Truncation.REFUSE

    def _exceeded(self, field: str, count: int, more: str = "") -> ContextLengthExceeded:
        count += self.context_length - self.tokens
        return ContextLengthExceeded(
            f"'{field}': has {more}{count} tokens, and this model takes {self.context_length}. "
            f"{self.advice}",
            field=field,
            metadata={"context_length": str(self.context_length), "prompt_tokens": str(count)},
        )


def _head(text: str, characters: int) -> str:
    """The beginning of a text, up to a space if there is one near."""
    space = text.rfind(" ", characters // 2, characters)
    return text[: characters if space < 0 else space]


def _tail(text: str, characters: int) -> str:
    """The end of a text, after a space if there is one near."""
    start = len(text) - characters
    space = text.find(" ", start, len(text) - characters // 2)
    return text[start if space < 0 else space + 1 :]
