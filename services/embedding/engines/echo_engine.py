"""An engine of hashed words. It needs no model, no torch and no GPU.

A vector is the sum of a fixed pseudo-random vector for each word, so that texts which share words
are near each other: good for tests, for trying clients, and for measuring everything around an
engine.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.embedding.engine import EncoderInfo, EncoderSpec, Tokens
from services.embedding.engines.inputs import check_encodes, check_inputs, check_scores
from services.errors import InvalidArgument, Unavailable

BEGIN, END = 0, 1
FIRST_WORD = 2
VOCABULARY_SIZE = 32_768
MOST_DIMENSIONS = 512
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """How the echo engine behaves."""

    dimensions: int = 64
    """Length of the vectors: a multiple of 8, at most 512."""
    context_length: int = 512
    """Most tokens (words and two special ones) of an input."""
    batch_tokens: int = 4096
    """Tokens of a batch beyond which more brings nothing."""
    batch_interval_s: float = 0.0
    """Time that a batch takes at least."""
    prompts: Mapping[str, str] = field(
        default_factory=lambda: {"query": "query: ", "document": "passage: "}
    )
    """Prefixes by name."""


class EchoTokenizer:
    """One token for each word, the same for the same word in any case."""

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> list[list[int]]:
        """Tokens of texts; what stands in front of them changes nothing."""
        return [[_word_id(word) for word in _WORD.findall(text.casefold())] for text in texts]

    def single(self, ids: Sequence[int], *, prefix: str = "") -> Tokens:
        """Prefix and tokens between two special tokens."""
        return Tokens([BEGIN, *self.encode([prefix])[0], *ids, END])

    def pair(self, first: Sequence[int], second: Sequence[int]) -> Tokens:
        """Two texts, each with a special token after it."""
        return Tokens([BEGIN, *first, END, *second, END], second_from=len(first) + 2)

    def overhead(self, *, prefix: str = "", pair: bool = False) -> int:
        """Tokens that `single` or `pair` add."""
        return 3 if pair else 2 + len(self.encode([prefix])[0])


class EchoEncoder:
    """Adds up words. Must be used on one event loop."""

    def __init__(self, settings: EchoSettings, *, scores_pairs: bool = False) -> None:
        self._info = EncoderInfo(
            name="echo",
            device="cpu",
            dtype="float32",
            build="echo-1",
            context_length=settings.context_length,
            vocabulary_size=VOCABULARY_SIZE,
            parameter_count=0,
            dimensions=0 if scores_pairs else settings.dimensions,
            shortening=not scores_pairs,
            scores_pairs=scores_pairs,
            prompts={} if scores_pairs else dict(settings.prompts),
            batch_tokens=settings.batch_tokens,
        )
        self._text = EchoTokenizer()
        self._interval_s = settings.batch_interval_s
        self._device = asyncio.Lock()
        self._closed = asyncio.Event()

    @property
    def info(self) -> EncoderInfo:
        """What it is."""
        return self._info

    @property
    def text(self) -> EchoTokenizer:
        """Its tokenizer."""
        return self._text

    async def encode(self, batch: Sequence[Tokens], *, normalize: bool) -> list[bytes]:
        """Vectors of a batch."""
        check_encodes(self._info)
        check_inputs(self._info, batch)
        async with self._turn():
            return [_vector(tokens, self._info.dimensions, normalize) for tokens in batch]

    async def score(self, batch: Sequence[Tokens]) -> list[float]:
        """The share of the first text's words that the second has."""
        check_scores(self._info)
        check_inputs(self._info, batch)
        async with self._turn():
            return [_overlap(tokens) for tokens in batch]

    async def probe(self) -> None:
        """There is no forward pass to run: answers as long as the engine is open."""
        self._check_open()

    async def close(self) -> None:
        """Fails what runs and waits."""
        self._closed.set()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        self._check_open()
        async with self._device:
            self._check_open()
            if self._interval_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), self._interval_s)
                self._check_open()
            yield

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)


class EchoLoader:
    """Makes echo engines; every folder and none will do."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings or EchoSettings()
        dimensions = self._settings.dimensions
        if dimensions % 8 or not 0 < dimensions <= MOST_DIMENSIONS:
            raise ValueError(f"dimensions has to be a multiple of 8 up to {MOST_DIMENSIONS}")

    async def load(self, spec: EncoderSpec, progress: Callable[[float], None]) -> EchoEncoder:
        """Makes an engine; `spec.source` and `spec.dtype` are not looked at."""
        if spec.context_length < 0:
            raise InvalidArgument("The context length can't be negative.", field="context_length")
        settings = self._settings
        if spec.context_length:
            settings = EchoSettings(
                dimensions=settings.dimensions,
                context_length=spec.context_length,
                batch_tokens=settings.batch_tokens,
                batch_interval_s=settings.batch_interval_s,
                prompts=settings.prompts,
            )
        progress(1.0)
        return EchoEncoder(settings, scores_pairs=spec.scores_pairs)


def _vector(tokens: Tokens, dimensions: int, normalize: bool) -> bytes:
    words = [token for token in tokens.ids[tokens.ignored :] if token >= FIRST_WORD]
    # A text without words still gets a vector of some length: that of its special tokens.
    vectors = [_signs(token, dimensions) for token in words or tokens.ids]
    total = np.sum(vectors, axis=0, dtype=np.float32)
    if not total.any():
        total = _signs(tokens.ids[0], dimensions)
    if normalize:
        total = total / np.linalg.norm(total)
    return total.astype("<f4").tobytes()


def _overlap(tokens: Tokens) -> float:
    middle = len(tokens.ids) if tokens.second_from is None else tokens.second_from
    first = {token for token in tokens.ids[:middle] if token >= FIRST_WORD}
    second = {token for token in tokens.ids[middle:] if token >= FIRST_WORD}
    return len(first & second) / len(first) if first else 0.0


def _word_id(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    return FIRST_WORD + int.from_bytes(digest, "little") % (VOCABULARY_SIZE - FIRST_WORD)


@lru_cache(maxsize=VOCABULARY_SIZE)
def _signs(token: int, dimensions: int) -> NDArray[np.float32]:
    digest = hashlib.blake2b(token.to_bytes(4, "little"), digest_size=dimensions // 8).digest()
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))
    return np.where(bits, np.float32(1), np.float32(-1))
