"""Tokenising: off the event loop where it takes time, in pieces, so that callers take turns."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from services.embedding.engine import Encoder, Tokens
from services.embedding.lengths import Room
from services.errors import InvalidArgument

T = TypeVar("T")
Input = str | Sequence[int]
"""A text, or token IDs."""

_AT_ONCE = 2_048
"""Characters of a call that is tokenised on the event loop: going to a thread takes longer."""
_AT_ONCE_INPUTS = 16
_PIECE = 16_384
"""Characters that a thread tokenises at a time."""
_PIECE_INPUTS = 64


class Threads:
    """Where texts are tokenised: pieces of all calls in turn, long texts where they delay none."""

    def __init__(self) -> None:
        self._pieces = ThreadPoolExecutor(2, "tokenize")
        self._long = ThreadPoolExecutor(1, "tokenize-long")

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """Runs work on so many characters or tokens."""
        pool = self._pieces if size <= _PIECE else self._long
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def close(self) -> None:
        """Lets the threads end once what they do is done."""
        self._pieces.shutdown(wait=False, cancel_futures=True)
        self._long.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class Prepared:
    """What is to be computed for a call."""

    inputs: list[Tokens] = field(default_factory=list[Tokens])
    truncated: list[bool] = field(default_factory=list[bool])
    total: int = 0
    """Tokens of all."""


@dataclass(frozen=True, slots=True)
class Form:
    """How an input becomes what the model reads."""

    encoder: Encoder
    room: Room
    wrap: Callable[[Sequence[int]], Tokens]
    """Puts around tokens what the model wants there."""
    prefix: str = ""
    """What a text follows, in which place it may have other tokens."""

    def apply(self, given: Input, ids: Sequence[int] | None, name: str) -> tuple[Tokens, bool]:
        """Returns an input as the model reads it, and whether it was cut.

        `ids` are the tokens of a text, `name` is the path of its field.
        """
        if ids is None:
            ids = self._known(given, name)
        kept, truncated = self.room.fit(ids, name)
        tokens = self.wrap(kept)
        if len(tokens.ids) <= tokens.ignored:
            raise InvalidArgument(f"'{name}': has no tokens that the model reads.", field=name)
        return tokens, truncated

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> Sequence[Sequence[int]]:
        """Returns the tokens of texts."""
        text = self.encoder.text
        if len(texts) != 1:
            return text.encode(texts, prefix=self.prefix) if texts else []
        return [self.room.encode(text, texts[0], prefix=self.prefix, field=names[0])]

    def _known(self, given: Input, name: str) -> Sequence[int]:
        """Token IDs, if the model has them all."""
        ids = [int(id) for id in given]
        most = self.encoder.info.vocabulary_size
        wrong = next((at for at, id in enumerate(ids) if not 0 <= id < most), None)
        if wrong is not None:
            path = f"{name}.token_ids.ids[{wrong}]"
            raise InvalidArgument(
                f"'{path}': token ID {ids[wrong]} is outside the model's vocabulary of {most}. "
                f"Take the IDs of this model's own tokenizer, or send the text.",
                field=path,
            )
        if not ids:
            raise InvalidArgument(f"'{name}': is empty; give it a token.", field=name)
        return ids


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes the inputs of calls ready."""

    threads: Threads
    most_tokens: int
    """Of one call."""

    async def add(
        self, prepared: Prepared, inputs: Sequence[Input], form: Form, field: str
    ) -> None:
        """Adds inputs to what is prepared for a call; `field` is the list that they came in.

        Raises:
            InvalidArgument: an input has no tokens or one that the model doesn't have, or all
                together have too many.
            ContextLengthExceeded: an input is too long, and isn't to be cut.
        """
        for at, given in enumerate(inputs):
            if not isinstance(given, str):  # its length is known: refused before any work is done
                form.room.fit(range(len(given)), _name(field, at))
        at_once = len(inputs) <= _AT_ONCE_INPUTS and sum(len(given) for given in inputs) <= _AT_ONCE
        for piece in pieces(inputs):
            if at_once:
                found = _prepare(inputs, piece, form, field)
            else:
                size = sum(len(inputs[at]) for at in piece)
                found = await self.threads.run(
                    size, lambda piece=piece: _prepare(inputs, piece, form, field)
                )
            for tokens, truncated in found:
                prepared.inputs.append(tokens)
                prepared.truncated.append(truncated)
                prepared.total += len(tokens.ids)
            if prepared.total > self.most_tokens:
                raise InvalidArgument(
                    f"'{field}': more than {self.most_tokens} tokens in one call. Spread them "
                    f"over several calls.",
                    field=field,
                )

    async def encode(self, text: str, form: Form, field: str) -> Sequence[int]:
        """Returns the tokens of one text that fits."""
        work = lambda: form.room.fit(form.encode([text], [field])[0], field)[0]  # noqa: E731
        return work() if len(text) <= _AT_ONCE else await self.threads.run(len(text), work)


def pieces(inputs: Sequence[Input]) -> Iterator[range]:
    """Splits inputs, in their order, into pieces of bounded size; a long one is alone."""
    start = size = 0
    for at, given in enumerate(inputs):
        full = size + len(given) > _PIECE or at - start == _PIECE_INPUTS
        if at > start and full:
            yield range(start, at)
            start, size = at, 0
        size += len(given)
    if start < len(inputs):
        yield range(start, len(inputs))


def _prepare(
    inputs: Sequence[Input], piece: range, form: Form, field: str
) -> list[tuple[Tokens, bool]]:
    texts = {at: given for at in piece if isinstance(given := inputs[at], str)}
    names = [_name(field, at) for at in texts]
    ids = dict(zip(texts, form.encode(list(texts.values()), names), strict=True))
    return [form.apply(inputs[at], ids.get(at), _name(field, at)) for at in piece]


def _name(field: str, at: int) -> str:
    return f"{field}[{at}]"
