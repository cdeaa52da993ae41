"""Bodies that no SDK would send: each gets a 4xx in the envelope, from the services themselves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.integration.gateway.echo_platform import CHAT, EchoPlatform
from tests.integration.gateway.odd_bodies import HORRORS, odd_bodies

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
VALID: dict[str, Any] = {
    "model": CHAT,
    "max_tokens": 16,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "x"}],
                },
                {"type": "text", "text": "so?"},
            ],
        },
    ],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop_sequences": ["END"],
    "stream": False,
    "tools": [{"name": "f", "description": "F.", "input_schema": SCHEMA, "strict": False}],
    "tool_choice": {"type": "auto", "name": "f", "disable_parallel_tool_use": True},
    "metadata": {"user_id": "u"},
    "thinking": {"type": "adaptive", "display": "omitted"},
    "output_config": {"format": None, "effort": "low"},
    "container": None,
}


def check(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        return
    assert answer.status_code in (400, 404), (answer.status_code, answer.text)
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert set(body["error"]) == {"type", "message"}


@pytest.mark.parametrize("path", PATHS)
async def test_horrors(whole: EchoPlatform, path: str) -> None:
    for horror in HORRORS:
        answer = await whole.http.post(path, content=horror)
        assert answer.status_code == 400, (horror[:20], answer.text)
        check(answer)


@pytest.mark.parametrize("path", PATHS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=odd_bodies(VALID))
async def test_generated(whole: EchoPlatform, path: str, body: bytes) -> None:
    check(await whole.http.post(path, content=body))


@pytest.mark.parametrize("path", PATHS)
async def test_what_they_are_made_of_is_taken(whole: EchoPlatform, path: str) -> None:
    answer = await whole.http.post(path, json=VALID)
    assert answer.status_code == 200, answer.text
