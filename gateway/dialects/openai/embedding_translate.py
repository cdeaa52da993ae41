"""Embeddings and rerank, translated into requests of the embedding service. No I/O."""

import re
from collections.abc import Sequence

from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as service_pb2

from gateway.dialects.openai import embedding_schema as schema
from gateway.dialects.openai.fields import Rule, Spelling, spelling
from gateway.errors import invalid, unsupported
from gateway.raw_json import raw_json

_MOST_TOKENS = 2**20
"""More than any service takes in one call; keeps bodies of nothing but numbers short."""

_KINDS: dict[type, str] = {str: "a string", int: "an integer", list: "an array"}

_ONE_INPUT: Sequence[Rule] = (
    (re.compile(r"^inputs\[0\]\.token_ids\.ids\[(\d+)\]$"), r"input[\1]"),
    (re.compile(r"^inputs.*$"), "input"),
)
_MANY_INPUTS: Sequence[Rule] = (
    (re.compile(r"^inputs\[(\d+)\]\.token_ids\.ids\[(\d+)\]$"), r"input[\1][\2]"),
    (re.compile(r"^inputs\[(\d+)\].*$"), r"input[\1]"),
    (re.compile(r"^inputs$"), "input"),
)
_RERANK: Sequence[Rule] = ((re.compile(r"^max_tokens_per_document$"), "max_tokens_per_doc"),)


def to_embed_request(body: schema.EmbeddingsRequest) -> service_pb2.EmbedRequest:
    """Translates a request for embeddings.

    Raises:
        ProblemError: texts and tokens are mixed, or there are too many tokens.
    """
    return service_pb2.EmbedRequest(
        model=body.model,
        inputs=_inputs(body),
        dimensions=body.dimensions,
        normalize=body.normalize,
        prompt_name=body.prompt_name or "",
        user=body.user or "",
    )


def to_rerank_request(body: schema.RerankRequest) -> service_pb2.RerankRequest:
    """Translates a request to rerank.

    Raises:
        ProblemError: a field is not supported.
    """
    if raw_json(body.rank_fields):
        raise unsupported("rank_fields", "documents are ranked by their text")
    if raw_json(body.max_chunks_per_doc):
        raise unsupported("max_chunks_per_doc", "use max_tokens_per_doc")
    return service_pb2.RerankRequest(
        model=body.model or "",
        query=body.query,
        documents=texts_of(body),
        top_n=body.top_n,
        max_tokens_per_document=body.max_tokens_per_doc,
        user=body.user or "",
    )


def texts_of(body: schema.RerankRequest) -> list[str]:
    """The documents, as texts."""
    return [item if isinstance(item, str) else item.text for item in body.documents]


def embed_spelling(body: schema.EmbeddingsRequest) -> Spelling:
    """The spelling of fields for one request for embeddings."""
    single = isinstance(body.input, str) or isinstance(body.input[0], int)
    return spelling(_ONE_INPUT if single else _MANY_INPUTS, "input")


def rerank_spelling() -> Spelling:
    """The spelling of fields for requests to rerank."""
    return spelling(_RERANK, "documents")


def _inputs(body: schema.EmbeddingsRequest) -> list[embedding_pb2.EmbeddingInput]:
    if isinstance(body.input, str):
        return [embedding_pb2.EmbeddingInput(text=body.input)]
    kind = type(body.input[0])
    inputs: list[embedding_pb2.EmbeddingInput] = []
    ids: list[int] = []
    count = 0
    for number, item in enumerate(body.input):
        if type(item) is not kind:
            raise invalid(
                f"Invalid type for 'input[{number}]': expected {_KINDS[kind]} like the items "
                f"before, but got {_KINDS[type(item)]} instead.",
                f"input[{number}]",
                "invalid_type",
            )
        if isinstance(item, str):
            inputs.append(embedding_pb2.EmbeddingInput(text=item))
        elif isinstance(item, int):
            ids.append(item)
        else:
            count += len(item)
            if count > _MOST_TOKENS:
                raise invalid(
                    f"Invalid 'input': more than {_MOST_TOKENS} tokens in one request.",
                    "input",
                    "array_above_max_length",
                )
            inputs.append(_tokens(item))
    return inputs or [_tokens(ids)]


def _tokens(ids: list[int]) -> embedding_pb2.EmbeddingInput:
    return embedding_pb2.EmbeddingInput(token_ids=embedding_pb2.TokenIds(ids=ids))
