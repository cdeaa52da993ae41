"""Bodies that no client would send: each gets a 4xx in the envelope, from the services."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.echo_platform import CHAT, VECTORS, EchoPlatform
from tests.integration.gateway.odd_bodies import HORRORS, odd_bodies

OPTIONS = {
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 0.5,
    "min_p": 0.1,
    "typical_p": 0.5,
    "seed": 3,
    "num_predict": 16,
    "stop": ["END"],
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "mirostat": 0,
    "num_ctx": 2048,
}
SHARED: dict[str, Any] = {
    "model": CHAT,
    "stream": False,
    "options": OPTIONS,
    "format": "",
    "keep_alive": "5m",
    "think": True,
    "logprobs": True,
    "top_logprobs": 2,
}
CALL = {"function": {"name": "f", "arguments": {"a": 1}}, "id": "call_1"}
VALID: dict[str, dict[str, Any]] = {
    "/api/chat": SHARED
    | {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi", "images": []},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL]},
            {"role": "tool", "tool_name": "f", "content": "x"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "F.", "parameters": {"type": "object"}},
            }
        ],
    },
    "/generate": SHARED
    | {
        "prompt": "hi",
        "suffix": "",
        "system": "Be brief.",
        "raw": False,
        "images": [],
        "template": "",
        "context": [],
    },
    "/api/embed": {
        "model": VECTORS,
        "input": ["a", "b"],
        "truncate": True,
        "dimensions": 64,
        "keep_alive": 5,
    },
    "/api/embeddings": {"model": VECTORS, "prompt": "a", "keep_alive": 5},
    "/api/show": {"model": CHAT, "name": CHAT},
}


def check(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        return
    assert answer.status_code in (400, 404), (answer.status_code, answer.text)
    assert list(answer.json()) == ["error"]


async def test_horrors(whole: EchoPlatform) -> None:
    for path in VALID:
        for horror in HORRORS:
            answer = await whole.http.post(path, content=horror)
            assert answer.status_code == 400, (path, horror[:20], answer.text)
            check(answer)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_generated(whole: EchoPlatform, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(VALID)))
    body = data.draw(odd_bodies(VALID[path]))
    check(await whole.http.post(path, content=body))


@pytest.mark.parametrize("path", sorted(VALID))
async def test_what_they_are_made_of_is_taken(whole: EchoPlatform, path: str) -> None:
    answer = await whole.http.post(path, json=VALID[path])
    assert answer.status_code == 200, answer.text
