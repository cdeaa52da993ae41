"""Bytes that clients of llama.cpp's form can read.

LLM for Unity 2 splits a whole body on `data: `, so these characters stand nowhere but at the
beginning of a frame; LLM for Unity 3 reads whatever arrives at once as one frame, so none is large.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.dialects.velesio.envelope import error_body
from gateway.errors import Problem
from gateway.sse import frame

MOST_BYTES = 4096
"""No frame is as long as this."""

_MOST_CHARACTERS = 480
"""Of text in a frame: each takes six bytes at most."""
_MOST_TOKENS = 64
_MARK, _ESCAPED = b"data: ", b"data:\\u0020"


def unsplit(json: bytes) -> bytes:
    """Writes `data: ` within JSON so that no client takes it for the beginning of a frame."""
    return json.replace(_MARK, _ESCAPED)


def llama_frame(body: Mapping[str, Any]) -> bytes:
    """Makes a frame."""
    return frame(unsplit(orjson.dumps(body)))


def llama_error(problem: Problem) -> bytes:
    """Makes the last frame of a stream that fails in llama.cpp's form."""
    return llama_frame(error_body(problem))


def portions(text: str, tokens: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Cuts what came at once into what a frame may hold."""
    start = 0
    while start * _MOST_CHARACTERS < len(text) or start * _MOST_TOKENS < len(tokens):
        yield (
            text[start * _MOST_CHARACTERS : (start + 1) * _MOST_CHARACTERS],
            tokens[start * _MOST_TOKENS : (start + 1) * _MOST_TOKENS],
        )
        start += 1
