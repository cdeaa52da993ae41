"""Documents and queries that are measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retrieval.records import Chunk, NewDocument

DIMENSIONS = 384
_WORDS = 4000
_CENTRES = 100
_SPREAD = 0.7


@dataclass(frozen=True)
class Corpus:
    """Documents of one chunk each, and what is asked of them."""

    title: str
    documents: Sequence[NewDocument]
    vectors: NDArray[np.float32]  # [n, d]
    queries: NDArray[np.float32]  # [q, d]
    texts: Sequence[str]


def made(title: str, count: int, queries: int) -> Corpus:
    """Makes documents whose vectors are spread evenly (`random`) or in groups (`clustered`)."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(_CENTRES, DIMENSIONS)) * (title == "clustered")
    spread = _SPREAD if title == "clustered" else 1.0

    def vectors(size: int) -> NDArray[np.float32]:
        own = centres[random.integers(0, _CENTRES, size)]
        own = own + spread * random.normal(size=(size, DIMENSIONS))
        return (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)

    # Few words are frequent, as in any language.
    likely = 1 / np.arange(1, _WORDS + 1)
    likely /= likely.sum()

    def text(length: int) -> str:
        return " ".join(f"word{n}" for n in random.choice(_WORDS, length, p=likely))

    stored = vectors(count)
    documents = [
        _document(at, text(int(random.integers(60, 180))), vector)
        for at, vector in enumerate(stored)
    ]
    return Corpus(title, documents, stored, vectors(queries), [text(8) for _ in range(queries)])


def _document(at: int, text: str, vector: NDArray[np.float32]) -> NewDocument:
    return NewDocument(
        id=f"document-{at:06}",
        title=f"Document {at}",
        text=text,
        mime_type="text/plain",
        properties={"tenth": at % 10, "name": f"n{at}"},
        source_uri="",
        content_sha256=f"{at:064x}",
        token_count=len(text) // 4,
        chunks=[Chunk(0, text, 0, len(text), vector)],
    )
