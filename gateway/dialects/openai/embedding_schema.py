"""Embeddings, as OpenAI documents them, and rerank, as Cohere and Jina do.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.dialects.openai.schema import AnyJson, PositiveCount, Text512, TokenId, TokenIds

RerankMethod = Literal["cross_encoder", "embedding_similarity"]
ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(min_length=1)]


class EmbeddingFields(msgspec.Struct, kw_only=True):
    """What is embedded, and how. `normalize` and `prompt_name` are local servers' own."""

    input: Text | Annotated[list[Text | TokenId | TokenIds], Meta(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    user: Text512 | None = None
    normalize: bool | None = None
    prompt_name: Annotated[str, Meta(max_length=128)] | None = None


class EmbeddingsRequest(EmbeddingFields, kw_only=True):
    """Body of `POST /v1/embeddings`."""

    model: ModelId


class AnyModelEmbeddingsRequest(EmbeddingFields, kw_only=True):
    """Body of a request for embeddings under prefixes that have a default model."""

    model: ModelId | None = None


class EmbeddingUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingObject(msgspec.Struct):
    """The vector of one input: numbers, or base64 of them as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(msgspec.Struct):
    """Body of the answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


class TextDocument(msgspec.Struct, kw_only=True):
    """A document as an object."""

    text: Text


class RerankRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/rerank` and `POST /v2/rerank`."""

    model: ModelId | None = None
    query: Text
    documents: Annotated[list[Text | TextDocument], Meta(min_length=1, max_length=2048)]
    top_n: PositiveCount | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: PositiveCount | None = None
    user: Text512 | None = None
    rank_fields: AnyJson = msgspec.UNSET
    max_chunks_per_doc: AnyJson = msgspec.UNSET


class RerankedText(msgspec.Struct):
    """A document that was scored."""

    text: str


class RerankResult(msgspec.Struct):
    """The score of one document, which is counted from 0 in the order of the request."""

    index: int
    relevance_score: float
    document: RerankedText | msgspec.UnsetType = msgspec.UNSET


class ApiVersion(msgspec.Struct):
    """Which of Cohere's versions this is."""

    version: str


class RerankTokens(msgspec.Struct):
    """Token counts, as Cohere names them."""

    input_tokens: int
    output_tokens: int


class RerankMeta(msgspec.Struct):
    """What Cohere tells besides."""

    api_version: ApiVersion
    tokens: RerankTokens


class Reranking(msgspec.Struct):
    """Body of the answer of `POST /v1/rerank` and `POST /v2/rerank`. `method` is ours."""

    id: str
    model: str
    results: list[RerankResult]
    usage: EmbeddingUsage
    meta: RerankMeta
    method: RerankMethod | None
