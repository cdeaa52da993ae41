"""Responses when something goes wrong: before the stream, within it, and behind it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.response_platform import RESPONSES, events
from tests.integration.gateway.test_edge_vector_stores import error_of


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "input": "one two three", "stream": True, **more}


async def streamed(edge: Edge, model: str, **more: Any) -> list[dict[str, Any]]:
    answer = await edge.http.post(RESPONSES, json=body(model, **more))
    assert answer.status_code == 200, answer.text
    found = events(answer.text)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "status", "param"),
    [
        ("fails-CONTEXT_LENGTH_EXCEEDED", 400, "top_k"),
        ("fails-MODEL_NOT_FOUND", 404, "top_k"),
        ("fails-QUEUE_FULL", 503, "top_k"),
        ("fails-INTERNAL", 500, "top_k"),
    ],
)
async def test_failures_before_the_first_event_have_a_status(
    edge: Edge, model: str, status: int, param: str, stream: bool
) -> None:
    answer = await edge.http.post(RESPONSES, json=body(model, stream=stream))
    assert error_of(answer, status)["param"] == param


async def test_a_failure_amid_a_stream_is_its_last_event(edge: Edge) -> None:
    found = await streamed(edge, "breaks")
    last = found[-1]
    assert [event["type"] for event in found[-3:]] == [
        "response.output_text.delta",
        "response.output_text.delta",
        "error",
    ]
    assert set(last) == {"type", "sequence_number", "code", "message", "param", "error"}
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["type"] == "server_error"


async def test_an_answer_amid_which_a_failure_came_is_not_kept(edge: Edge) -> None:
    """The service behind keeps none: that it was not asked shows in what the stream ends with."""
    assert (await streamed(edge, "breaks", store=True))[-1]["type"] == "error"


async def test_an_answer_that_can_not_be_kept(edge: Edge) -> None:
    found = await streamed(edge, "words", store=True)
    last = found[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert last["response"]["output"][0]["content"][0]["text"] == "one two three "
    answer = await edge.http.post(RESPONSES, json=body("words", store=True, stream=False))
    error_of(answer, 501)


async def test_leaving_ends_the_generation(edge: Edge) -> None:
    backend = edge.backend
    async with edge.http.stream("POST", RESPONSES, json=body("endless", store=True)) as answer:
        await anext(aiter(answer.aiter_bytes()))
        assert backend.live
    await backend.until(lambda: not backend.live)
