"""The engine port: a loaded encoder, free of queues and transport.

Queueing, fairness and batching belong to the domain (`batching`), so that they are the same on
every engine. An engine computes one batch at a time, off the event loop, on its own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What the engine is; fixed while it lives."""

    name: str
    """`torch`, `echo`, …"""
    device: str
    dtype: str
    build: str
    """Identifies library versions and weights; part of the fingerprint."""
    context_length: int
    """Most tokens of one input, special tokens included."""
    vocabulary_size: int
    parameter_count: int
    dimensions: int = 0
    """Length of the vectors; 0 for a cross-encoder."""
    shortening: bool = False
    """Whether vectors keep their meaning when they are cut (Matryoshka)."""
    normalizes: bool = True
    """Whether the model's own configuration scales vectors to length 1."""
    scores_pairs: bool = False
    """True for a cross-encoder: it scores pairs of texts and makes no vectors."""
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Prefixes by the model's own names for them, such as `query` and `document`."""
    default_prompt: str = ""
    """Name of the prefix that is taken when none is asked for; empty is none."""
    batch_tokens: int = 4096
    """Tokens of a batch beyond which more brings nothing."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One input, ready to be computed: IDs with the model's special tokens."""

    ids: Sequence[int]
    second_from: int | None = None
    """For a pair, where the second text begins."""
    ignored: int = 0
    """Leading tokens that count for attention but not for pooling: a prefix, where the model's
    configuration excludes it."""


class Tokenizer(Protocol):
    """The text side of an encoder. Thread-safe; costs real time for long texts, so callers keep it
    off the event loop."""

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> list[list[int]]:
        """Tokens of texts without special ones, whatever their length.

        With a prefix, the tokens that a text has where it follows it (a word after a space may be
        another token than at the beginning); those of the prefix itself are left to `single`.
        """
        ...

    def single(self, ids: Sequence[int], *, prefix: str = "") -> Tokens:
        """Puts the prefix in front of the tokens and the model's special tokens around both."""
        ...

    def pair(self, first: Sequence[int], second: Sequence[int]) -> Tokens:
        """Puts two texts into one input, for a cross-encoder."""
        ...

    def overhead(self, *, prefix: str = "", pair: bool = False) -> int:
        """Tokens that `single` or `pair` add."""
        ...


class Encoder(Protocol):
    """Runs one model."""

    @property
    def info(self) -> EncoderInfo:
        """What it is."""
        ...

    @property
    def text(self) -> Tokenizer:
        """Its tokenizer."""
        ...

    async def encode(self, batch: Sequence[Tokens], *, normalize: bool) -> list[bytes]:
        """Vectors of a batch, in its order: each `dimensions` little-endian float32.

        Runs off the event loop; one batch runs at a time. Inputs of any mix of lengths; callers
        group those of similar length where the engine says that it pads.

        Raises:
            InvalidArgument: a token ID is outside the vocabulary, or an input is empty or longer
                than `context_length`; callers check that beforehand.
            Unavailable: the engine is closing or has stopped.
        """
        ...

    async def score(self, batch: Sequence[Tokens]) -> list[float]:
        """Relevance of pairs, in [0, 1]; for a cross-encoder only."""
        ...

    async def probe(self) -> None:
        """Runs one real forward pass; raises when the model can't answer."""
        ...

    async def close(self) -> None:
        """Frees the device and ends its thread; what still runs fails with `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What is to be loaded."""

    model: str
    """The model's ID."""
    revision: str
    source: Path
    context_length: int = 0
    """0 takes what the folder says."""
    dtype: str = "auto"
    scores_pairs: bool = False
    """Whether a cross-encoder is wanted (kind RERANK)."""


class EncoderLoader(Protocol):
    """Loads models with one kind of engine."""

    async def load(self, spec: EncoderSpec, progress: Callable[[float], None]) -> Encoder:
        """Loads off the event loop and reports its share done, in [0, 1].

        Raises:
            FailedPrecondition: the folder is missing, broken, not safetensors, of an architecture
                that is not known, or wants remote code; the message says which and what to do.
        """
        ...
