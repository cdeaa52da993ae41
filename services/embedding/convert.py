"""Between the messages of `penstock.embedding.v1` and the dataclasses of the domain."""

from google.protobuf.duration_pb2 import Duration
from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as pb
from penstock.inference.v1 import usage_pb2

from services.embedding.requests import (
    EmbedAnswer,
    EmbedRequest,
    Priority,
    RerankAnswer,
    RerankRequest,
    Task,
    Truncation,
)

_TRUNCATIONS = {
    embedding_pb2.TRUNCATION_REFUSE: Truncation.REFUSE,
    embedding_pb2.TRUNCATION_KEEP_START: Truncation.KEEP_START,
    embedding_pb2.TRUNCATION_KEEP_END: Truncation.KEEP_END,
}


def to_embed_request(request: pb.EmbedRequest) -> EmbedRequest:
    """Reads a request for vectors. Lists of token IDs stay in the message: they may be long."""
    return EmbedRequest(
        model=request.model,
        inputs=[
            given.text if given.HasField("text") else given.token_ids.ids
            for given in request.inputs
        ],
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        normalize=request.normalize if request.HasField("normalize") else None,
        truncation=_TRUNCATIONS.get(request.truncation),
        task=Task(request.task),
        prompt_name=request.prompt_name,
        user=request.user,
        priority=_to_priority(request.priority),
        request_id=request.request_id,
    )


def from_embed_answer(answer: EmbedAnswer) -> pb.EmbedResponse:
    """Writes vectors."""
    return pb.EmbedResponse(
        model=answer.model,
        embeddings=[
            embedding_pb2.Embedding(
                index=index,
                dimensions=answer.dimensions,
                values=values,
                token_count=answer.token_counts[index],
                truncated=answer.truncated[index],
            )
            for index, values in enumerate(answer.vectors)
        ],
        usage=_usage(sum(answer.token_counts)),
        fingerprint=answer.fingerprint,
        queue_duration=_duration(answer.timings.queue_s),
        compute_duration=_duration(answer.timings.compute_s),
    )


def to_rerank_request(request: pb.RerankRequest) -> RerankRequest:
    """Reads a request for an order."""
    most = request.max_tokens_per_document
    return RerankRequest(
        model=request.model,
        query=request.query,
        documents=list(request.documents),
        top_n=request.top_n if request.HasField("top_n") else None,
        max_tokens_per_document=most if request.HasField("max_tokens_per_document") else None,
        truncation=_TRUNCATIONS.get(request.truncation),
        user=request.user,
        priority=_to_priority(request.priority),
        request_id=request.request_id,
    )


def from_rerank_answer(answer: RerankAnswer) -> pb.RerankResponse:
    """Writes an order."""
    return pb.RerankResponse(
        model=answer.model,
        results=[
            embedding_pb2.RerankResult(
                index=result.index, relevance_score=result.score, truncated=result.truncated
            )
            for result in answer.results
        ],
        method=embedding_pb2.RerankMethod.ValueType(answer.method.value),
        usage=_usage(answer.tokens),
        queue_duration=_duration(answer.timings.queue_s),
        compute_duration=_duration(answer.timings.compute_s),
    )


def _to_priority(priority: int) -> Priority:
    return Priority(priority) if priority else Priority.NORMAL


def _usage(tokens: int) -> usage_pb2.Usage:
    return usage_pb2.Usage(prompt_tokens=tokens, total_tokens=tokens)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
