"""Vectors of the embedding service as JSON, in the form that OpenAI and Gel have in common.

They go from the bytes that they come as straight into JSON; a body is made piece by piece, so
that a large one holds nobody up.
"""

import asyncio
import binascii
from collections.abc import Iterator

import msgspec
import numpy as np
import orjson
from penstock.embedding.v1 import embedding_service_pb2

_PIECE_BYTES = 64 * 1024
"""Vectors whose rendering takes well under a millisecond."""


def vector_list(
    response: embedding_service_pb2.EmbedResponse, model: str, *, base64: bool = False
) -> Iterator[bytes]:
    """Renders vectors in pieces of the body. `model` is what was asked for."""
    render = _base64 if base64 else _vector
    pieces = [b'{"object":"list","data":[']
    size = 0
    opening = b'{"object":"embedding","index":%d,"embedding":'
    for item in response.embeddings:
        if size >= _PIECE_BYTES:
            yield b"".join(pieces)
            pieces.clear()
            size = 0
        values = item.values
        size += len(values)
        pieces += (opening % item.index, *render(values), b"}")
        opening = b',{"object":"embedding","index":%d,"embedding":'
    usage = (response.usage.prompt_tokens, response.usage.total_tokens)
    pieces += (b'],"model":', msgspec.json.encode(model))
    pieces.append(b',"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % usage)
    yield b"".join(pieces)


async def joined(pieces: Iterator[bytes]) -> bytes:
    """Makes a body; others get their turn while a large one is made."""
    made: list[bytes] = []
    for piece in pieces:
        if made:
            await asyncio.sleep(0)
        made.append(piece)
    return b"".join(made)


def _base64(values: bytes) -> tuple[bytes, bytes, bytes]:
    return b'"', binascii.b2a_base64(values, newline=False), b'"'


def _vector(values: bytes) -> tuple[bytes]:
    return (numbers(values),)


def numbers(values: bytes) -> bytes:
    """Renders a vector: the shortest digits that are read as the same float32 again."""
    vector = np.frombuffer(values, np.dtype("<f4"))
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
