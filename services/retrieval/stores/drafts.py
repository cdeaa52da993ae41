"""Documents made ready for storing, before a transaction begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.errors import InvalidArgument
from services.retrieval.indexes.port import ChunkRow
from services.retrieval.indexes.words import words
from services.retrieval.records import Chunk, Fingerprint, NewDocument, Vector
from services.retrieval.stores.canonical import storable
from services.retrieval.stores.properties import kept_properties, keys_of


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to store, and the words of its chunks."""

    document: NewDocument
    values: dict[str, Any]
    """Columns of DOCUMENTS that don't depend on what is stored."""
    words: Sequence[Sequence[str]]

    def rows(self, number: int, first_chunk: int) -> list[ChunkRow]:
        """Returns its chunks with their IDs."""
        return [
            ChunkRow(
                id=first_chunk + position,
                document=number,
                position=chunk.index,
                start_byte=chunk.start_byte,
                end_byte=chunk.end_byte,
                text=chunk.text,
                words=found,
                vector=chunk.vector,
            )
            for position, (chunk, found) in enumerate(
                zip(self.document.chunks, self.words, strict=True)
            )
        ]


def drafted(document: NewDocument, dimensions: int, field: str) -> Draft:
    """Makes a document ready. Raises `InvalidArgument` where it can't be kept."""
    if not document.id:
        raise InvalidArgument(f"'{field}.name': the ID must not be empty.", field=f"{field}.name")
    storable(document.id, f"{field}.name")
    storable(document.text, f"{field}.text")
    found = [
        _words(chunk, dimensions, f"{field}.chunks[{chunk.index}]") for chunk in document.chunks
    ]
    texts = [document.text, *(chunk.text for chunk in document.chunks)]
    values = described(document, field) | {
        "id": document.id,
        "chunk_count": len(document.chunks),
        "token_count": document.token_count,
        "word_count": sum(len(words) for words in found),
        "size_bytes": sum(len(text.encode()) for text in texts)
        + sum(len(word.encode()) + 1 for words in found for word in words)
        + 4 * dimensions * len(document.chunks),
    }
    return Draft(document, values, found)


def described(document: NewDocument | Fingerprint, field: str) -> dict[str, Any]:
    """Returns the columns that change without the content. Raises `InvalidArgument`."""
    properties = kept_properties(document.properties, f"{field}.properties")
    return {
        "title": storable(document.title, f"{field}.title"),
        "source_uri": storable(document.source_uri, f"{field}.source_uri"),
        "mime_type": storable(document.mime_type, f"{field}.mime_type"),
        "content_sha256": document.content_sha256,
        "properties": properties,
        "keys": keys_of(properties),
    }


def _words(chunk: Chunk, dimensions: int, field: str) -> list[str]:
    storable(chunk.text, f"{field}.text")
    check_vector(chunk.vector, dimensions, f"{field}.vector")
    return words(chunk.text)


def check_vector(vector: Vector, dimensions: int, field: str) -> None:
    """Raises `InvalidArgument` where a vector doesn't belong into a collection."""
    if vector.shape != (dimensions,):
        raise InvalidArgument(
            f"'{field}': has {vector.size} numbers; vectors of this collection have {dimensions}.",
            field=field,
        )
    if not np.isfinite(vector).all():
        raise InvalidArgument(f"'{field}': its numbers must be finite.", field=field)
