"""Chat requests to decode."""

import json

SMALL, LARGE = "small", "large"
TITLES = {SMALL: "two messages", LARGE: "100 messages, 200 KB"}
_LARGE_BYTES = 200_000
_TURN = "She said: \"It's 20 °C outside.\"\n\tLet's walk to the café on the corner, and back. "
"""As texts are: with quotes, ends of lines, and letters that are not ASCII."""


def bodies() -> dict[str, bytes]:
    """The requests by name, as SDKs write them: JSON in UTF-8."""
    few = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    roles = ("user", "assistant")
    each = len(_TURN.encode())
    turns = _LARGE_BYTES // 100 // each
    many = [{"role": roles[turn % 2], "content": _TURN * turns} for turn in range(100)]
    return {SMALL: _body(few), LARGE: _body(many)}


def _body(messages: list[dict[str, str]]) -> bytes:
    request = {
        "model": "penstock-starter",
        "messages": messages,
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 256,
        "stop": ["\n\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(request, ensure_ascii=False).encode()
