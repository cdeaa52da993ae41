"""The dialects, as tests of refusals ask them, and how each says no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MESSAGES = [{"role": "user", "content": "Hi"}]
TEXT = None
"""Stands for a word that is no JSON: the whole answer is plain text."""


@dataclass(frozen=True)
class Dialect:
    """How a dialect is asked, and how it says no."""

    path: str
    body: Mapping[str, Any]
    wrong: Mapping[str, Any]
    """A field with a value of the wrong type."""
    unknown: str
    """A path that is the dialect's and nobody's. Empty where it has no prefix of its own."""
    says: Callable[[Any], str]
    """The word of an error's body, which has exactly the keys that it should have."""


def keys(body: Any, *names: str) -> Any:
    assert set(body) == set(names), body
    return body


def openai(body: Any) -> str:
    error = keys(keys(body, "error")["error"], "message", "type", "param", "code")
    return error["type"]


def velesio(body: Any) -> str:
    return keys(keys(body, "error")["error"], "code", "message", "details")["code"]


def anthropic(body: Any) -> str:
    whole = keys(body, "type", "error", "request_id")
    assert whole["type"] == "error"
    return keys(whole["error"], "type", "message")["type"]


DIALECTS = {
    "openai": Dialect(
        "/v1/chat/completions",
        {"model": "m", "messages": MESSAGES},
        {"messages": 5},
        "/v1/nonsense",
        openai,
    ),
    "anthropic": Dialect(
        "/v1/messages",
        {"model": "m", "messages": MESSAGES, "max_tokens": 5},
        {"max_tokens": "5"},
        "/v1/messages/nonsense",
        anthropic,
    ),
    "velesio": Dialect("/chat/completions", {"messages": MESSAGES}, {"messages": 5}, "", velesio),
    "ollama": Dialect(
        "/api/chat",
        {"model": "m", "messages": MESSAGES, "stream": False},
        {"messages": 5},
        "/api/nonsense",
        lambda body: str(type(keys(body, "error")["error"]).__name__),
    ),
    "gel": Dialect(
        "/branch/default/ai/rag",
        {"model": "m", "query": "q", "context": {"query": "default::Doc"}},
        {"query": 5},
        "/branch/default/ai/nonsense",
        lambda body: keys(body, "message", "type")["type"],
    ),
    "webui": Dialect(
        "/sdapi/v1/txt2img", {"prompt": "a"}, {"steps": "many"}, "/sdapi/v1/nonsense", velesio
    ),
    "botserver": Dialect(
        "/api/v1/ai/chat/completions",
        {"messages": MESSAGES},
        {"messages": 5},
        "/api/v1/ai/nonsense",
        lambda body: keys(body, "error", "message")["error"],
    ),
}
