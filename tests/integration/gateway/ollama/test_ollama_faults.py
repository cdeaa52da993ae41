"""Failures of a service that does as it is told, as Ollama's clients see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.gateway.conftest import Edge

CHAT = {"messages": [{"role": "user", "content": "once upon a time"}]}
RAW = {"prompt": "once upon a time", "raw": True}
BODIES: list[tuple[str, dict[str, Any]]] = [("/api/chat", CHAT), ("/generate", RAW)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("MODEL_NOT_FOUND", 404),
        ("INVALID_ARGUMENT", 400),
        ("UNSUPPORTED_PARAMETER", 400),
        ("CONTEXT_LENGTH_EXCEEDED", 400),
        ("QUEUE_FULL", 503),
        ("PERMISSION_DENIED", 403),
        ("INTERNAL", 500),
    ],
)
async def test_what_fails_at_once_has_a_status(
    edge: Edge, stream: bool, path: str, body: dict[str, Any], reason: str, status: int
) -> None:
    asked = body | {"model": f"fails-{reason}", "stream": stream}
    answer = await edge.http.post(path, json=asked)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"error": f"it is {reason} in options.top_k"}


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_what_fails_later_is_a_line(edge: Edge, path: str, body: dict[str, Any]) -> None:
    answer = await edge.http.post(path, json=body | {"model": "breaks", "stream": True})
    assert answer.status_code == 200
    *texts, last = [json.loads(line) for line in answer.text.splitlines()]
    assert len(texts) == 2
    assert last == {"error": "it is INTERNAL in None"}


class TestSilence:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.001}

    async def test_nothing_is_said_that_is_no_part_of_the_answer(self, edge: Edge) -> None:
        """A token comes every ten milliseconds: between two there would be room for pings."""
        asked = CHAT | {"model": "endless", "stream": True}
        async with edge.http.stream("POST", "/api/chat", json=asked) as answer:
            lines: list[str] = []
            async for line in answer.aiter_lines():
                lines.append(json.loads(line)["message"]["content"])
                if len(lines) == 10:
                    break
        assert lines == [f"token {number} " for number in range(1, 11)]
        await edge.backend.until(lambda: not edge.backend.live)
