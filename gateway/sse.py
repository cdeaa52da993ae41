"""Server-sent events, as bytes.

A stream's frames differ in little: what comes before and after the news is made once.
"""

from collections.abc import Mapping
from typing import Any

import orjson

PING = b": ping\n\n"
"""A comment: keeps proxies from closing a silent stream."""

DONE = b"data: [DONE]\n\n"
"""Last frame of a stream that ended well, in OpenAI's form."""

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""Headers of every stream."""


def line_safe(data: bytes) -> bytes:
    """Escapes what some clients take for the end of a line, though it is none in this format."""
    if data.isascii():
        return data
    return (
        data.replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
        .replace(b"\xc2\x85", b"\\u0085")
    )


def frame(body: Mapping[str, Any] | bytes) -> bytes:
    """Makes the frame of one event."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return b"data: " + line_safe(data) + b"\n\n"
