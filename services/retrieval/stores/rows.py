"""Rows of the tables to records and back."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.retrieval.indexes.port import Space
from services.retrieval.records import (
    Chunking,
    Collection,
    Document,
    Fingerprint,
    Metric,
    Prompt,
    PropertySchema,
    PropertyType,
)
from services.retrieval.stores.properties import properties_of

Row = Mapping[Any, Any]


def collection_row(collection: Collection) -> dict[str, Any]:
    """Makes a row of COLLECTIONS, without its counts."""
    return {
        "tenant": collection.tenant,
        "id": collection.id,
        "uid": collection.uid,
        "embedding_model": collection.embedding_model,
        "dimensions": collection.dimensions,
        "metric": collection.metric.value,
        "display_name": collection.display_name,
        "chunking": chunking_json(collection.chunking),
        "properties": schemas_json(collection.properties),
        "metadata": dict(collection.metadata),
        "create_time": collection.create_time,
        "update_time": collection.update_time,
        "expire_time": expiry(collection.expire_after, collection.create_time)
        or collection.expire_time,
        "expire_after": collection.expire_after,
        "etag": collection.etag,
    }


def to_collection(row: Row) -> Collection:
    """Reads a row of COLLECTIONS, with `last_search_time`."""
    return Collection(
        tenant=row["tenant"],
        id=row["id"],
        uid=row["uid"],
        embedding_model=row["embedding_model"],
        dimensions=row["dimensions"],
        metric=Metric(row["metric"]),
        display_name=row["display_name"],
        chunking=Chunking(**row["chunking"]),
        properties=_schemas(row["properties"]),
        metadata=row["metadata"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        etag=row["etag"],
        last_search_time=row["last_search_time"],
        expire_time=row["expire_time"],
        expire_after=row["expire_after"],
        document_count=row["document_count"],
        chunk_count=row["chunk_count"],
        size_bytes=row["size_bytes"],
    )


def expiry(after: timedelta | None, active: datetime) -> datetime | None:
    """When a collection that was last active at an instant expires, if that follows from it."""
    return None if after is None else active + after


def to_space(row: Row) -> Space:
    """Reads a row of COLLECTIONS as what an index knows of it."""
    return Space(
        key=row["key"],
        dimensions=row["dimensions"],
        metric=Metric(row["metric"]),
        sequence=row["sequence"],
        chunk_count=row["chunk_count"],
        word_count=row["word_count"],
    )


def chunking_json(chunking: Chunking) -> dict[str, Any]:
    """Writes how documents are split."""
    return {
        "max_tokens": chunking.max_tokens,
        "overlap_tokens": chunking.overlap_tokens,
        "whole_documents": chunking.whole_documents,
    }


def schemas_json(schemas: Sequence[PropertySchema]) -> list[dict[str, Any]]:
    """Writes declared properties."""
    return [
        {"name": schema.name, "type": schema.type.value, "required": schema.required}
        for schema in schemas
    ]


def _schemas(kept: Sequence[Mapping[str, Any]]) -> tuple[PropertySchema, ...]:
    return tuple(
        PropertySchema(schema["name"], PropertyType(schema["type"]), schema["required"])
        for schema in kept
    )


def schemas_of(row: Row) -> tuple[PropertySchema, ...]:
    """Reads the declared properties of a row of COLLECTIONS."""
    return _schemas(row["properties"])


def to_document(row: Row, text: str) -> Document:
    """Reads a row of DOCUMENTS."""
    return Document(
        id=row["id"],
        title=row["title"],
        text=text,
        mime_type=row["mime_type"],
        properties=properties_of(row["properties"]),
        source_uri=row["source_uri"],
        content_sha256=row["content_sha256"],
        chunk_count=row["chunk_count"],
        token_count=row["token_count"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def to_fingerprint(row: Row) -> Fingerprint:
    """Reads a row of DOCUMENTS."""
    return Fingerprint(
        content_sha256=row["content_sha256"],
        title=row["title"],
        mime_type=row["mime_type"],
        properties=properties_of(row["properties"]),
        source_uri=row["source_uri"],
    )


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """Makes a row of PROMPTS."""
    return {
        "tenant": prompt.tenant,
        "id": prompt.id,
        "uid": prompt.uid,
        "messages": list(prompt.messages),
        "create_time": prompt.create_time,
        "update_time": prompt.update_time,
        "etag": prompt.etag,
        "builtin": prompt.builtin,
    }


def to_prompt(row: Row) -> Prompt:
    """Reads a row of PROMPTS."""
    return Prompt(
        tenant=row["tenant"],
        id=row["id"],
        uid=row["uid"],
        messages=tuple(row["messages"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        etag=row["etag"],
        builtin=bool(row["builtin"]),
    )
