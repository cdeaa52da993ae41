"""The text side of Hugging Face encoders."""

import logging
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer

from services.embedding.engine import Tokens
from services.errors import FailedPrecondition
from services.weights import configuration
from services.weights.folder import ModelFolder

_log = logging.getLogger(__name__)

_SAMPLES = ("a", "b")
_PREFIXES = 64
"""Prefixes whose tokens are remembered."""


class HFTokenizer:
    """Tokenizes with a tokenizer of the `tokenizers` library.

    Args:
        backend: it.
        lowercase: whether texts are made lower-case beforehand.
        pools_prefix: whether a prefix counts in pooling.
    """

    def __init__(
        self, backend: Tokenizer, *, lowercase: bool = False, pools_prefix: bool = True
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._lowercase = lowercase
        self._pools_prefix = pools_prefix
        self._before, self._after = self._around()
        self._pair, self.pair_types = self._around_pair()
        self._prefix = lru_cache(_PREFIXES)(self._read_prefix)

    @property
    def size(self) -> int:
        """Tokens that it knows."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> list[list[int]]:
        """Tokens of texts, as they are where they follow a prefix."""
        if not prefix:
            return self._ids(texts)
        front = self._prefix(prefix)
        found: list[list[int]] = []
        for text, ids in zip(texts, self._ids([prefix + text for text in texts]), strict=True):
            joins = ids[: len(front)] == front
            found.append(ids[len(front) :] if joins else self._ids([text])[0])
        return found

    def single(self, ids: Sequence[int], *, prefix: str = "") -> Tokens:
        """Prefix and tokens between the model's special tokens."""
        front = self._prefix(prefix) if prefix else []
        ignored = 0 if self._pools_prefix or not front else len(self._before) + len(front)
        return Tokens([*self._before, *front, *ids, *self._after], ignored=ignored)

    def pair(self, first: Sequence[int], second: Sequence[int]) -> Tokens:
        """Two texts with the model's special tokens."""
        before, between, after = self._pair
        start = [*before, *first, *between]
        return Tokens([*start, *second, *after], second_from=len(start))

    def overhead(self, *, prefix: str = "", pair: bool = False) -> int:
        """Tokens that `single` or `pair` add."""
        if pair:
            return sum(map(len, self._pair))
        front = self._prefix(prefix) if prefix else []
        return len(self._before) + len(front) + len(self._after)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        sound = [_sound(text) for text in texts]
        if self._lowercase:
            sound = [text.lower() for text in sound]
        encodings = self._backend.encode_batch_fast(sound, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _read_prefix(self, prefix: str) -> list[int]:
        """Tokens of a prefix that stay the same whatever follows.

        A space at its end belongs to the word after it in many vocabularies.
        """
        whole = self._ids([prefix])[0]
        followed = self._ids([prefix + "a"])[0]
        same = 0
        while same < min(len(whole), len(followed)) and whole[same] == followed[same]:
            same += 1
        return whole[:same]

    def _around(self) -> tuple[list[int], list[int]]:
        bare = self._backend.encode(_SAMPLES[0], add_special_tokens=False).ids
        ids = self._backend.encode(_SAMPLES[0], add_special_tokens=True).ids
        start = _find(ids, bare, 0)
        return ids[:start], ids[start + len(bare) :]

    def _around_pair(self) -> tuple[tuple[list[int], list[int], list[int]], bool]:
        first, second = (
            self._backend.encode(text, add_special_tokens=False).ids for text in _SAMPLES
        )
        encoding = self._backend.encode(*_SAMPLES, add_special_tokens=True)
        ids = encoding.ids
        one = _find(ids, first, 0)
        two = _find(ids, second, one + len(first))
        parts = (ids[:one], ids[one + len(first) : two], ids[two + len(second) :])
        return parts, encoding.type_ids[two] == 1


def load_tokenizer(
    folder: ModelFolder, *, lowercase: bool = False, pools_prefix: bool = True
) -> HFTokenizer:
    """Loads a folder's tokenizer.

    Raises:
        FailedPrecondition: it can't be loaded, or only by Python code.
    """
    backend = configuration.fast_tokenizer(configuration.load_tokenizer(folder))
    try:
        return HFTokenizer(backend, lowercase=lowercase, pools_prefix=pools_prefix)
    except Exception as error:
        _log.exception("a tokenizer can't be used")
        raise FailedPrecondition(
            "The tokenizer can't be used: save it into the folder again with "
            "`tokenizer.save_pretrained(folder)` of a recent transformers; the server's log has "
            "the details."
        ) from error


def _find(ids: Sequence[int], part: Sequence[int], start: int) -> int:
    for place in range(start, len(ids) - len(part) + 1):
        if list(ids[place : place + len(part)]) == list(part):
            return place
    raise ValueError("a text's tokens are not among those with special tokens")


def _sound(text: str) -> str:
    """The text without lone surrogates, which are no text: tokenizers refuse them."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()
