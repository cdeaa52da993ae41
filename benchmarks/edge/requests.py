"""The HTTP requests that the load generator sends."""

import json
from typing import Any

from benchmarks.edge.events import MODEL
from benchmarks.edge.pacing import Pace

KEY = "bench-key"
"""The API key of every edge that wants one."""

ENDLESS = 1_000_000
"""Tokens of a stream that nobody sees the end of."""

OPENAI = "openai"
"""Requests in OpenAI's form."""

NATIVE = "native"
"""Requests in the form that the protos give, as a transcoder takes them."""


def stream_request(form: str, pace: Pace, tag: str = "") -> bytes:
    """Asks for a stream."""
    return _request(form, f"{pace} {tag}", stream=True)


def unary_request(form: str) -> bytes:
    """Asks for a whole answer."""
    return _request(form, f"{Pace.FLOOD} ", stream=False)


def _request(form: str, text: str, *, stream: bool) -> bytes:
    if form == OPENAI:
        path, body = "/v1/chat/completions", _openai(text, stream=stream)
    else:
        verb = "streamChat" if stream else "chat"
        path, body = f"/penstock/v1/models/{MODEL}:{verb}", _native(text)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\n"
        f"accept: application/json\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode("ascii") + data


def _openai(text: str, *, stream: bool) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text},
        ],
        "max_tokens": ENDLESS if stream else 16,
        "temperature": 0.7,
        "ignore_eos": stream,
        "stream": stream,
    }


def _native(text: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "ROLE_SYSTEM", "parts": [{"text": "You are a helpful assistant."}]},
            {"role": "ROLE_USER", "parts": [{"text": text}]},
        ],
        "sampling": {"max_tokens": ENDLESS, "temperature": 0.7, "ignore_eos": True},
    }
