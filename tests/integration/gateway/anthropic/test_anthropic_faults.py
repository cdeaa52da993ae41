"""Failures and silences of a service that does as it is told, as Anthropic's clients see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.gateway.conftest import Edge

PATH = "/v1/messages"


def asked(model: str, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "once upon a time"}]
    return {"model": model, "max_tokens": 64, "messages": messages} | changes


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("MODEL_NOT_FOUND", 404, "not_found_error"),
        ("INVALID_ARGUMENT", 400, "invalid_request_error"),
        ("UNSUPPORTED_PARAMETER", 400, "invalid_request_error"),
        ("CONTEXT_LENGTH_EXCEEDED", 400, "invalid_request_error"),
        ("QUEUE_FULL", 529, "overloaded_error"),
        ("PERMISSION_DENIED", 403, "permission_error"),
        ("INTERNAL", 500, "api_error"),
    ],
)
async def test_what_fails_at_once_has_a_status(
    edge: Edge, stream: bool, reason: str, status: int, kind: str
) -> None:
    answer = await edge.http.post(PATH, json=asked(f"fails-{reason}", stream=stream))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert "in top_k" in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]
    if reason == "QUEUE_FULL":
        assert answer.headers["retry-after"] == "60"


async def test_what_fails_later_is_an_event(edge: Edge) -> None:
    answer = await edge.http.post(PATH, json=asked("breaks", stream=True))
    assert answer.status_code == 200
    *_, last = answer.text.split("\n\n")[:-1]
    kind, data = last.split("\n")
    assert kind == "event: error"
    body = json.loads(data.removeprefix("data: "))
    assert body["type"] == "error"
    assert body["error"]["type"] == "api_error"
    assert body["request_id"] == answer.headers["request-id"]
    assert "message_stop" not in answer.text


class TestSilence:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.02}

    async def test_it_is_broken_by_pings(self, edge: Edge) -> None:
        async with edge.http.stream("POST", PATH, json=asked("silent", stream=True)) as answer:
            lines: list[str] = []
            async for line in answer.aiter_lines():
                lines.append(line)
                if len(lines) == 9:
                    break
        assert lines[0] == "event: message_start"
        assert lines[3:9] == ["event: ping", 'data: {"type":"ping"}', ""] * 2
        await edge.backend.until(lambda: not edge.backend.live)
