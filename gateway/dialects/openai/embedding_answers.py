"""Answers of the embedding service, translated into the dialect's. No I/O."""

from collections.abc import Iterator

from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as service_pb2
from penstock.inference.v1 import usage_pb2

from gateway.context import new_id
from gateway.dialects.openai import embedding_schema as schema
from gateway.dialects.openai import embedding_translate as translate
from gateway.vectors import vector_list

_METHODS: dict[int, schema.RerankMethod] = {
    embedding_pb2.RERANK_METHOD_CROSS_ENCODER: "cross_encoder",
    embedding_pb2.RERANK_METHOD_EMBEDDING_SIMILARITY: "embedding_similarity",
}


def embeddings(
    response: service_pb2.EmbedResponse, body: schema.EmbeddingsRequest
) -> Iterator[bytes]:
    """Renders vectors for their request, in pieces of the body."""
    return vector_list(response, body.model, base64=body.encoding_format == "base64")


def reranking(
    response: service_pb2.RerankResponse, body: schema.RerankRequest, version: str
) -> schema.Reranking:
    """Renders scores for their request; `version` is that of Cohere's API.

    Jina's clients expect the documents back unless they say otherwise, Cohere's second version
    never sends them unasked.
    """
    shown = body.return_documents if body.return_documents is not None else version == "1"
    texts = translate.texts_of(body) if shown else []
    results = [schema.RerankResult(item.index, item.relevance_score) for item in response.results]
    if shown:
        for result in results:
            result.document = schema.RerankedText(texts[result.index])
    tokens = response.usage.total_tokens
    return schema.Reranking(
        id=new_id("rerank-"),
        model=body.model or response.model,
        results=results,
        usage=_usage(response.usage),
        meta=schema.RerankMeta(schema.ApiVersion(version), schema.RerankTokens(tokens, 0)),
        method=_METHODS.get(response.method),
    )


def _usage(counts: usage_pb2.Usage) -> schema.EmbeddingUsage:
    return schema.EmbeddingUsage(counts.prompt_tokens, counts.total_tokens)
