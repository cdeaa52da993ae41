"""Reads searches and questions, and writes what was found, of `penstock.retrieval.v1`."""

from collections.abc import Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from penstock.embedding.v1 import embedding_pb2 as embedding_pb
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.retrieval.v1 import answer_pb2 as answer_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import search_pb2 as search_pb
from penstock.retrieval.v1 import upsert_pb2 as upsert_pb

from services.errors import InvalidArgument
from services.retrieval.answering import DEFAULT_OBJECT_COUNT, Question, Source
from services.retrieval.convert import from_json_object, from_message, to_json, to_json_object
from services.retrieval.ingest import Committed, Event, Finish, Rejected
from services.retrieval.names import CollectionRef, PromptRef, document_name
from services.retrieval.peers import Priority
from services.retrieval.prompts import Message
from services.retrieval.records import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Hit,
    Not,
    Operator,
    SearchMode,
    Vector,
)
from services.retrieval.searching import DEFAULT_TOP_K, Found, Query, Reranking
from services.retrieval.values import check_json, check_text
from services.rpc.errors import to_status

MOST_DEEP = 16
MOST_CONDITIONS = 512
MOST_VALUES = 10_000
_LISTS = (Operator.IN, Operator.NOT_IN)


def to_filter(filter: search_pb.Filter, field: str = "filter") -> Filter:
    """Reads a filter. Raises `InvalidArgument` where it is too deep, too large, or wants a list."""
    return _Filters().read(filter, field, 1)


class _Filters:
    """Reads one filter, and counts what is in it."""

    def __init__(self) -> None:
        self._conditions = 0

    def read(self, filter: search_pb.Filter, field: str, depth: int) -> Filter:
        self._conditions += 1
        if depth > MOST_DEEP or self._conditions > MOST_CONDITIONS:
            raise InvalidArgument(
                f"'{field[:200]}': filters are nested at most {MOST_DEEP} deep, and have at most "
                f"{MOST_CONDITIONS} conditions.",
                field=field[:200],
            )
        kind = filter.WhichOneof("condition")
        path = f"{field}.{kind}"
        if kind == "comparison":
            return _comparison(filter.comparison, path)
        if kind == "not":
            return Not(self.read(getattr(filter, "not"), path, depth + 1))
        parts = tuple(
            self.read(part, f"{path}.filters[{place}]", depth + 1)
            for place, part in enumerate(getattr(filter, str(kind)).filters)
        )
        return AllOf(parts) if kind == "all_of" else AnyOf(parts)


def _comparison(comparison: search_pb.Comparison, field: str) -> Comparison:
    operator = Operator(comparison.operator)
    value = to_json(comparison.value)
    check_text(comparison.property, f"{field}.property")
    check_json(value, f"{field}.value")
    if isinstance(value, list):
        if len(value) > MOST_VALUES:
            raise InvalidArgument(
                f"'{field}.value': has at most {MOST_VALUES} items.", field=f"{field}.value"
            )
        value = tuple(value)
    if (operator in _LISTS) != isinstance(value, tuple):
        wanted = "a list of values" if operator in _LISTS else "one value, not a list"
        raise InvalidArgument(
            f"'{field}.value': {operator.name} takes {wanted}.", field=f"{field}.value"
        )
    return Comparison(comparison.property, operator, value)


def to_query(request: pb.SearchRequest) -> Query:
    """Reads a search."""
    return Query(
        text=request.text,
        vector=_vector(request.vector) if request.HasField("vector") else None,
        filter=to_filter(request.filter) if request.HasField("filter") else None,
        top_k=request.top_k if request.HasField("top_k") else DEFAULT_TOP_K,
        min_score=request.min_score,
        mode=_mode(request.mode),
        reranking=_reranking(request),
        max_hits_per_document=(
            request.max_hits_per_document if request.HasField("max_hits_per_document") else None
        ),
        exact=request.exact,
        include_vectors=request.include_vectors,
        priority=Priority(request.priority or Priority.NORMAL.value),
    )


def to_question(request: pb.AnswerRequest, tenant: str, prompt: PromptRef | None) -> Question:
    """Reads a question; `prompt` is the stored one that it names."""
    context = request.context
    count = context.max_object_count
    return Question(
        tenant=tenant,
        source=Source(
            expression=context.expression,
            collection_id=context.collection_id,
            variables=to_json_object(context.variables),
            globals=to_json_object(context.globals),
        ),
        query=Query(
            text=request.query,
            filter=(
                to_filter(context.filter, "context.filter") if context.HasField("filter") else None
            ),
            top_k=count if context.HasField("max_object_count") else DEFAULT_OBJECT_COUNT,
            min_score=context.min_score,
            mode=_mode(context.mode),
            reranking=_reranking(context),
            priority=Priority(request.priority or Priority.NORMAL.value),
        ),
        prompt=prompt,
        has_messages=bool(request.prompt.custom_messages),
        safe=request.safe_prompt,
    )


def to_chat(request: pb.AnswerRequest, messages: Sequence[Message]) -> inference_pb.ChatRequest:
    """Writes the chat that answers a question."""
    chat = inference_pb.ChatRequest(
        model=request.model,
        messages=[from_message(message) for message in messages],
        tools=request.tools,
        user=request.user,
        priority=request.priority,
        request_id=request.request_id,
    )
    chat.messages.extend(request.prompt.custom_messages)
    for name in ("sampling", "tool_choice", "guide"):
        if request.HasField(name):
            getattr(chat, name).CopyFrom(getattr(request, name))
    return chat


def from_found(found: Found) -> pb.SearchResponse:
    """Writes what was found."""
    duration = Duration()
    duration.FromNanoseconds(round(found.search_s * 1e9))
    return pb.SearchResponse(
        hits=[_from_hit(hit, found.collection) for hit in found.hits],
        rerank_method=_method(found),
        embedded_token_count=found.embedded_token_count,
        search_duration=duration,
    )


def from_retrieved(found: Found) -> answer_pb.AnswerEvent:
    """Writes what an answer is based on."""
    return answer_pb.AnswerEvent(
        retrieved=answer_pb.Retrieved(
            hits=[_from_hit(hit, found.collection) for hit in found.hits],
            rerank_method=_method(found),
            embedded_token_count=found.embedded_token_count,
        )
    )


def from_upsert_event(event: Event) -> upsert_pb.UpsertDocumentsEvent:
    """Writes one word about an upsert."""
    match event:
        case Committed():
            return upsert_pb.UpsertDocumentsEvent(
                committed=upsert_pb.Committed(settled_count=event.settled_count, names=event.names)
            )
        case Rejected():
            return upsert_pb.UpsertDocumentsEvent(
                rejected=upsert_pb.Rejected(
                    index=event.index, name=event.name, status=to_status(event.error)
                )
            )
        case Finish():
            return upsert_pb.UpsertDocumentsEvent(
                finish=upsert_pb.UpsertFinish(
                    created_count=event.created_count,
                    replaced_count=event.replaced_count,
                    unchanged_count=event.unchanged_count,
                    rejected_count=event.rejected_count,
                    embedded_chunk_count=event.embedded_chunk_count,
                    embedded_token_count=event.embedded_token_count,
                )
            )


def _from_hit(hit: Hit, collection: CollectionRef) -> search_pb.Hit:
    return search_pb.Hit(
        document=document_name(collection, hit.document),
        chunk_index=hit.chunk_index,
        text=hit.text,
        distance=hit.distance,
        score=hit.score,
        title=hit.title,
        properties=from_json_object(hit.properties),
        source_uri=hit.source_uri,
        start_byte=hit.start_byte,
        end_byte=hit.end_byte,
        vector=(
            None
            if hit.vector is None
            else search_pb.Vector(values=hit.vector.astype("<f4").tobytes())
        ),
    )


def _method(found: Found) -> embedding_pb.RerankMethod.ValueType:
    method = found.rerank_method
    return embedding_pb.RerankMethod.ValueType(0 if method is None else method.value)


def _mode(mode: int) -> SearchMode | None:
    return SearchMode(mode) if mode else None


def _vector(vector: search_pb.Vector) -> Vector:
    return np.frombuffer(vector.values, dtype="<f4").astype(np.float32)


def _reranking(request: pb.SearchRequest | answer_pb.AnswerContext) -> Reranking | None:
    if not request.HasField("reranking"):
        return None
    asked = request.reranking
    return Reranking(
        model=asked.model,
        candidate_count=asked.candidate_count if asked.HasField("candidate_count") else None,
    )
