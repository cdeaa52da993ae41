"""The text side of Hugging Face models: tokenizer and chat template."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from services.errors import InvalidArgument
from services.inference.engine import NO_OPTIONS, TextDecoder
from services.inference.engines.pieces import Pieces, Scheme
from services.inference.engines.template_names import template_family
from services.weights.chat_text import ChatText
from services.weights.configuration import fast_tokenizer

REPLACEMENT = "\ufffd"


class HFText:
    """Codec over a tokenizer.

    `decode` and decoders work on exact bytes where the vocabulary allows (byte-level and
    sentencepiece-like ones), so that both agree on every input, also on broken UTF-8.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocabulary_size: int = 0) -> None:
        self._chat = ChatText(tokenizer)
        backend = fast_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._backend = backend
        self._pieces = Pieces(backend)
        self._special = frozenset(
            token_id
            for token_id, token in backend.get_added_tokens_decoder().items()
            if token.special
        )
        self._size = max(vocabulary_size, backend.get_vocab_size(with_added_tokens=True))

    @property
    def template_name(self) -> str:
        """Family of the chat template."""
        return template_family(self._chat.template)

    @property
    def chat_template(self) -> str:
        """The template, in Jinja."""
        return self._chat.template

    @property
    def bos_token(self) -> str:
        """Text of the beginning-of-sequence token."""
        return cast("str | None", self._tokenizer.bos_token) or ""

    @property
    def eos_token(self) -> str:
        """Text of the end-of-sequence token."""
        return cast("str | None", self._tokenizer.eos_token) or ""

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """Tokens of a text."""
        return self._chat.encode(text, add_special=add_special)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones included."""
        self._check(ids)
        if self._pieces.scheme is Scheme.OTHER:
            return self._plain(ids)
        text = b"".join(self._pieces[token_id] for token_id in ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._pieces.drops_first_space else text

    def piece(self, token_id: int) -> bytes:
        """Exact bytes of a token; empty for IDs that the model has and the tokenizer has not."""
        self._check((token_id,))
        return self._pieces[token_id]

    def decoder(
        self, prompt: Sequence[int] = (), *, keep: frozenset[str] = frozenset()
    ) -> TextDecoder:
        """A fresh decoder for what follows `prompt`."""
        hidden = self._special
        if keep:
            hidden -= {self._backend.token_to_id(text) for text in keep}
        before = next((token for token in reversed(prompt) if token not in self._special), None)
        if self._pieces.scheme is Scheme.OTHER:
            return DifferenceDecoder(self._plain, hidden, before)
        drop = self._pieces.drops_first_space and before is None
        return BytesDecoder(self._pieces, hidden, drop_first_space=drop)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt of a conversation."""
        return self._chat.render(messages, tools, add_generation_prompt=add_generation_prompt)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        opening: str = "",
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> list[int]:
        """Tokens of a conversation's prompt, opened for an answer."""
        return self._chat.prompt(messages, tools, opening=opening, options=options)

    def _plain(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def _check(self, ids: Sequence[int]) -> None:
        for token_id in ids:
            if not 0 <= token_id < self._size:
                raise InvalidArgument(
                    f"Token ID {token_id} is outside the vocabulary: IDs go from 0 to "
                    f"{self._size - 1}."
                )


class BytesDecoder:
    """Decodes tokens whose bytes are known."""

    def __init__(self, pieces: Pieces, special: frozenset[int], *, drop_first_space: bool) -> None:
        self._pieces = pieces
        self._special = special
        self._drop_first_space = drop_first_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """Returns the text that became certain."""
        if token_id in self._special:
            return ""
        return self._trim(self._utf8.decode(self._pieces[token_id]))

    def flush(self) -> str:
        """Returns what is left."""
        return self._trim(self._utf8.decode(b"", final=True))

    def _trim(self, text: str) -> str:
        if self._drop_first_space and text:
            self._drop_first_space = False
            return text.removeprefix(" ")
        return text


class DifferenceDecoder:
    """Decodes tokens whose text depends on the token before.

    Compares what the tokenizer makes of the text with and without the new token.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        special: frozenset[int],
        before: int | None,
    ) -> None:
        self._decode = decode
        self._special = special
        self._done = (
            [] if before is None else [before]
        )  # given out already; context of what follows
        self._pending: list[int] = []

    def feed(self, token_id: int) -> str:
        """Returns the text that became certain."""
        if token_id in self._special:
            return ""
        self._pending.append(token_id)
        text = self._difference()
        return "" if text.endswith(REPLACEMENT) else self._give(text)

    def flush(self) -> str:
        """Returns what is left."""
        return self._give(self._difference()) if self._pending else ""

    def _difference(self) -> str:
        known = self._decode(self._done)
        return self._decode([*self._done, *self._pending])[len(known) :]

    def _give(self, text: str) -> str:
        self._done, self._pending = self._pending, []
        return text
