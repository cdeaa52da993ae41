"""Vector stores, as OpenAI documents them.

An optional field that is null is absent. Unknown fields are ignored. `embedding_model` and
`embedding_dimension` are local servers' own.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.dialects.openai.embedding_schema import ModelId, Text
from gateway.dialects.openai.schema import Labels, Text512

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
Scalar = str | bool | int | float
Name = Annotated[str, Meta(max_length=256)]


class ExpiresAfter(msgspec.Struct, kw_only=True):
    """When a store is deleted by itself: so many days after it was last used."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class StaticChunking(msgspec.Struct, kw_only=True):
    """Sizes of chunks."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)]


class ChunkingStrategy(msgspec.Struct, kw_only=True):
    """How documents are split."""

    type: Literal["auto", "static"]
    static: StaticChunking | None = None


class VectorStoreCreate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/vector_stores`."""

    name: Name | None = None
    description: Text512 | None = None
    file_ids: Annotated[list[Text], Meta(max_length=100)] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Labels | None = None
    embedding_model: ModelId | None = None
    embedding_dimension: Annotated[int, Meta(ge=1, le=65536)] | None = None


class VectorStoreUpdate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/vector_stores/{vector_store_id}`."""

    name: Name | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Labels | None = None


class SearchFilter(msgspec.Struct, kw_only=True):
    """A condition on attributes: a comparison, or several joined by `and` or `or`."""

    type: Operator
    key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    value: Scalar | Annotated[list[Scalar], Meta(max_length=1024)] | None = None
    filters: "Annotated[list[SearchFilter], Meta(min_length=1, max_length=64)] | None" = None


class RankingOptions(msgspec.Struct, kw_only=True):
    """How hits are ordered. `ranker` may be the ID of a rerank or embedding model, too."""

    ranker: ModelId | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class VectorStoreSearch(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/vector_stores/{vector_store_id}/search`."""

    query: Text | Annotated[list[Text], Meta(min_length=1, max_length=32)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    filters: SearchFilter | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None


class VectorStoreFileCreate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/vector_stores/{vector_store_id}/files`."""

    file_id: Text
    attributes: dict[str, Scalar] | None = None
    chunking_strategy: ChunkingStrategy | None = None


class StoreListQuery(msgspec.Struct, kw_only=True):
    """Which page of a list is wanted."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


class FileListQuery(StoreListQuery, kw_only=True):
    """Which page of a list of files is wanted."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None


class FileCounts(msgspec.Struct):
    """Documents of a store, by their state."""

    in_progress: int
    completed: int
    cancelled: int
    failed: int
    total: int


class VectorStore(msgspec.Struct):
    """A vector store. Keys after `metadata` are ours."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: ExpiresAfter | None
    expires_at: int | None
    last_active_at: int | None
    metadata: dict[str, str]
    embedding_model: str
    description: str | msgspec.UnsetType = msgspec.UNSET


class VectorStoreDeleted(msgspec.Struct):
    """Body of the answer of `DELETE /v1/vector_stores/{vector_store_id}`."""

    id: str
    object: Literal["vector_store.deleted"]
    deleted: bool


class VectorStoreList(msgspec.Struct):
    """Body of the answer of `GET /v1/vector_stores`."""

    object: Literal["list"]
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FoundText(msgspec.Struct):
    """A piece of text."""

    type: Literal["text"]
    text: str


class SearchResult(msgspec.Struct):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Scalar]
    content: list[FoundText]


class SearchResultsPage(msgspec.Struct):
    """Body of the answer of `POST /v1/vector_stores/{vector_store_id}/search`."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool
    next_page: str | None


class OtherChunking(msgspec.Struct):
    """Says that how a document was split is not known any more."""

    type: Literal["other"]


class VectorStoreFile(msgspec.Struct):
    """A document of a store; `usage_bytes` is the length of its vectors."""

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    last_error: None
    usage_bytes: int
    attributes: dict[str, Scalar]
    chunking_strategy: OtherChunking


class VectorStoreFileList(msgspec.Struct):
    """Body of the answer of `GET /v1/vector_stores/{vector_store_id}/files`."""

    object: Literal["list"]
    data: list[VectorStoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VectorStoreFileDeleted(msgspec.Struct):
    """Body of the answer of `DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}`."""

    id: str
    object: Literal["vector_store.file.deleted"]
    deleted: bool


class FileContentPage(msgspec.Struct):
    """Body of the answer of `GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content`."""

    object: Literal["vector_store.file_content.page"]
    data: list[FoundText]
    has_more: bool
    next_page: str | None
