"""Records for tests, made in few words."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from services.retrieval.records import (
    Chunk,
    Chunking,
    Collection,
    Comparison,
    Json,
    Metric,
    NewDocument,
    Operator,
    PropertySchema,
    PropertyType,
    Vector,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def collection(tenant: str, id: str = "c", **changes: Any) -> Collection:
    plain = Collection(
        tenant=tenant,
        id=id,
        uid=str(uuid.uuid4()),
        embedding_model="minilm",
        dimensions=4,
        metric=Metric.COSINE,
        display_name="Ünï 漢字 🙂",
        chunking=Chunking(max_tokens=64, overlap_tokens=8),
        properties=(),
        metadata={"a": "b"},
        create_time=NOW,
        update_time=NOW,
        etag="e1",
    )
    return replace(plain, **changes)


def vector(*numbers: float) -> Vector:
    return np.array(numbers, np.float32)


def document(
    id: str,
    texts: Sequence[str] = ("text",),
    vectors: Sequence[Vector] = (),
    properties: Mapping[str, Json] | None = None,
    **changes: Any,
) -> NewDocument:
    whole = " ".join(texts)
    vectors = vectors or [vector(1, 0, 0, 0)] * len(texts)
    chunks = [
        Chunk(at, text, whole.find(text), whole.find(text) + len(text.encode()), found)
        for at, (text, found) in enumerate(zip(texts, vectors, strict=True))
    ]
    plain = NewDocument(
        id=id,
        title=f"title of {id}",
        text=whole,
        mime_type="text/plain",
        properties=properties or {},
        source_uri=f"file:///{id}",
        content_sha256=hashlib.sha256(whole.encode()).hexdigest(),
        token_count=len(whole.split()),
        chunks=chunks,
    )
    return replace(plain, **changes)


def compare(property: str, operator: str, value: Json) -> Comparison:
    return Comparison(property, Operator[operator], value)


def schema(**types: str) -> tuple[PropertySchema, ...]:
    return tuple(PropertySchema(name, PropertyType[kind]) for name, kind in types.items())
