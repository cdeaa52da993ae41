"""An embedder for whom every word is a token: small enough to foresee what it does."""

import asyncio
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.errors import ContextLengthExceeded, InvalidArgument
from services.retrieval.peers import Caller, Embedded, Priority, Ranked, RerankMethod, Task

DIMENSIONS = 64
ADDED = 2
"""Tokens put around every text."""
NOBODY = Caller("nobody")
_WORD = re.compile(r"\w+")


def vector(text: str) -> np.ndarray:
    """Bag of words, of length 1."""
    values = np.zeros(DIMENSIONS, np.float32)
    for word in _WORD.findall(text.lower()):
        values[zlib.crc32(word.encode()) % DIMENSIONS] += 1
    return values / max(1e-9, float(np.linalg.norm(values)))


@dataclass
class WordEmbedder:
    """Embeds by words; `before` is called before each call and may fail or wait."""

    context_length: int = 512
    dimensions: int = DIMENSIONS
    call_tokens: int = 1_000_000
    before: Callable[[Sequence[str]], None] = lambda texts: None
    gate: asyncio.Event | None = None
    calls: list[list[str]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    priorities: list[Priority] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        task: Task,
        caller: Caller,
        dimensions: int | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Embedded:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
            self.before(texts)
            if dimensions not in (None, self.dimensions):
                raise InvalidArgument("other dimensions", field="dimensions")
            counts = [len(_WORD.findall(text)) + ADDED for text in texts]
            if sum(counts) > self.call_tokens:
                raise InvalidArgument("too many together", field="inputs")
            for place, count in enumerate(counts):
                if count == ADDED:
                    raise InvalidArgument("no tokens", field=f"inputs[{place}].text")
                if count > self.context_length:
                    raise ContextLengthExceeded("too long", field=f"inputs[{place}].text")
            self.calls.append(list(texts))
            self.tasks.append(task)
            self.priorities.append(priority)
            vectors = np.stack([vector(text)[: self.dimensions] for text in texts])
            return Embedded(model, vectors, counts)
        finally:
            self.running -= 1

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        caller: Caller,
        priority: Priority = Priority.NORMAL,
    ) -> Ranked:
        """Scores by the share of the query's words that a document has."""
        words = set(_WORD.findall(query.lower()))
        scores = [len(words & set(_WORD.findall(d.lower()))) / len(words) for d in documents]
        return Ranked(scores, RerankMethod.CROSS_ENCODER, len(documents))

    @property
    def texts(self) -> list[str]:
        """Everything that was embedded, but for the text that measures."""
        return [text for call in self.calls for text in call if text != "a"]
