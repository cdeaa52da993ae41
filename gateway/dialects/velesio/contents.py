"""Embeddings of `content`, as llama.cpp's servers have them. No I/O."""

from collections.abc import Iterator, Sequence
from typing import cast

from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as service_pb2

from gateway.dialects.velesio import schema
from gateway.errors import invalid, unsupported
from gateway.vectors import numbers

_MOST_INPUTS = 2048
_NORMS = {-1: False, 2: True}
"""`embd_normalize`: none, and to length 1."""


def to_embed_request(body: schema.ContentEmbeddingRequest) -> service_pb2.EmbedRequest:
    """Translates a request whose model is set.

    Raises:
        ProblemError: texts and numbers are mixed, or the vectors are wanted otherwise than can be.
    """
    norm = body.embd_normalize
    if norm is not None and norm not in _NORMS:
        raise unsupported("embd_normalize", "vectors have length 1 (2), or are as they are (-1)")
    return service_pb2.EmbedRequest(
        model=body.model or "",
        inputs=_inputs(body.content),
        normalize=None if norm is None else _NORMS[norm],
    )


def is_many(body: schema.ContentEmbeddingRequest) -> bool:
    """Tells whether `content` is a list of texts; numbers alone are one."""
    return isinstance(body.content, list) and not isinstance(body.content[0], int)


def vector_object(response: service_pb2.EmbedResponse, *, many: bool) -> Iterator[bytes]:
    """Renders `{"embedding": …}` in pieces: one vector, or a list of them."""
    yield b'{"embedding":' + (b"[" if many else b"")
    for number, item in enumerate(response.embeddings):
        yield (b"," if number else b"") + numbers(item.values)
    yield b"]}" if many else b"}"


def vector_array(response: service_pb2.EmbedResponse) -> Iterator[bytes]:
    """Renders `[{"index": 0, "embedding": [[…]]}, …]` in pieces."""
    yield b"["
    for number, item in enumerate(response.embeddings):
        opening = b'%s{"index":%d,"embedding":[' % (b"," if number else b"", item.index)
        yield opening + numbers(item.values) + b"]}"
    yield b"]"


def _inputs(content: str | Sequence[str | int | list[int]]) -> list[embedding_pb2.EmbeddingInput]:
    if isinstance(content, str):
        return [embedding_pb2.EmbeddingInput(text=content)]
    kind = type(content[0])
    for number, item in enumerate(content):
        if isinstance(item, int) is not (kind is int):
            raise invalid(
                f"Invalid type for 'content[{number}]': token IDs can't stand beside texts here.",
                f"content[{number}]",
                "invalid_type",
            )
    if kind is int:
        return [_tokens(cast("list[int]", content))]
    if len(content) > _MOST_INPUTS:
        raise invalid(
            f"Invalid 'content': array too long. Expected at most {_MOST_INPUTS} texts, but got "
            f"{len(content)} instead.",
            "content",
            "array_above_max_length",
        )
    return [
        embedding_pb2.EmbeddingInput(text=item) if isinstance(item, str) else _tokens(item)
        for item in cast("list[str | list[int]]", content)
    ]


def _tokens(ids: list[int]) -> embedding_pb2.EmbeddingInput:
    return embedding_pb2.EmbeddingInput(token_ids=embedding_pb2.TokenIds(ids=ids))
