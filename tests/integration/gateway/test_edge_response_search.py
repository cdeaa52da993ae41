"""`file_search` of responses: passages are found before the answer, and the model reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.dialects.openai import response_answer_schema as answers
from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.response_platform import RESPONSES, WEATHER, events
from tests.integration.gateway.test_edge_vector_stores import error_of


@pytest_asyncio.fixture(loop_scope="module")
async def stores(edge: Edge) -> list[str]:
    """Two vector stores with something in them."""
    ids: list[str] = []
    for _ in range(2):
        made = (await edge.http.post("/v1/vector_stores", json={"name": "facts"})).json()
        ids.append(made["id"])
    peer = edge.vectors.retrieval
    one, other = peer.collections
    peer.put(one, "mars", "the sky on Mars is red", planet="Mars")
    peer.put(one, "earth", "the sky on Earth is blue", planet="Earth")
    peer.put(other, "sea", "the sea is under the sky")
    return ids


def body_of(stores: list[str], **more: Any) -> dict[str, Any]:
    tool = {"type": "file_search", "vector_store_ids": stores, **more.pop("tool", {})}
    return {"model": "words", "input": "sky on Mars", "tools": [tool], **more}


async def created(edge: Edge, body: dict[str, Any]) -> dict[str, Any]:
    answer = await edge.http.post(RESPONSES, json=body)
    assert answer.status_code == 200, answer.text
    response = answer.json()
    msgspec.convert(response, answers.Response, strict=True)
    return response


def said_before(edge: Edge) -> list[str]:
    """What the model read before what the user said."""
    return [message.parts[0].text for message in edge.backend.requests[-1].messages[:-1]]


async def test_passages_are_read(edge: Edge, stores: list[str]) -> None:
    response = await created(edge, body_of(stores, instructions="Be brief."))
    search, message = response["output"]
    assert search == {
        "type": "file_search_call",
        "id": search["id"],
        "status": "completed",
        "queries": ["sky on Mars"],
        "results": None,
    }
    assert search["id"].startswith("fs_")
    assert message["content"][0]["text"] == "sky on Mars "
    assert said_before(edge) == [
        "Be brief.\n\n"
        "Passages from the user's files, found by a search for what the user said:\n\n"
        "mars.md:\nthe sky on Mars is red\n\n"
        "earth.md:\nthe sky on Earth is blue\n\n"
        "sea.md:\nthe sea is under the sky"
    ]
    assert response["instructions"] == "Be brief."
    assert response["tools"] == [
        {
            "type": "file_search",
            "vector_store_ids": stores,
            "max_num_results": 10,
            "filters": None,
            "ranking_options": None,
        }
    ]


async def test_results_are_shown_if_asked_for(edge: Edge, stores: list[str]) -> None:
    tool = {
        "max_num_results": 2,
        "filters": {"type": "eq", "key": "planet", "value": "Mars"},
        "ranking_options": {"score_threshold": 0.4},
    }
    body = body_of(stores, tool=tool, include=["file_search_call.results"])
    response = await created(edge, body)
    (first, second) = response["output"][0]["results"]
    assert first == {
        "file_id": "mars",
        "filename": "mars.md",
        "score": 1.0,
        "attributes": {"planet": "Mars"},
        "text": "the sky on Mars is red",
    }
    assert second["file_id"] == "earth"
    asked = edge.vectors.retrieval.requests[-1]
    assert (asked.top_k, asked.min_score) == (2, 0.4)
    assert asked.filter.comparison.property == "planet"
    assert response["tools"][0]["filters"]["key"] == "planet"


async def test_a_stream_tells_of_the_search_first(edge: Edge, stores: list[str]) -> None:
    body = body_of(stores, stream=True, include=["file_search_call.results"])
    answer = await edge.http.post(RESPONSES, json=body)
    found = events(answer.text)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:9]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
    ]
    added, done = found[2]["item"], found[6]["item"]
    assert (added["status"], added["results"]) == ("in_progress", None)
    assert (done["status"], len(done["results"])) == ("completed", 3)
    assert {event["item_id"] for event in found[3:6]} == {done["id"]}
    assert [event["output_index"] for event in found[2:7]] == [0] * 5
    assert [event["output_index"] for event in found[7:-1]] == [1] * len(found[7:-1])
    output = found[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["file_search_call", "message"]
    assert output[0] == done


async def test_what_the_user_said_last_is_looked_for(edge: Edge, stores: list[str]) -> None:
    body = body_of(stores)
    body["input"] = [
        {"role": "user", "content": "the sea"},
        {"role": "user", "content": [{"type": "input_text", "text": " sky\n on"}]},
        {"role": "assistant", "content": "What of it?"},
    ]
    response = await created(edge, body)
    assert response["output"][0]["queries"] == ["sky on"]


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": "none"},
        {"input": "  "},
        {"input": [{"role": "system", "content": "sky"}]},
    ],
)
async def test_nothing_is_looked_for(edge: Edge, stores: list[str], more: dict[str, Any]) -> None:
    before = len(edge.vectors.retrieval.requests)
    response = await created(edge, body_of(stores, **more))
    assert [item["type"] for item in response["output"]] == ["message"]
    assert len(edge.vectors.retrieval.requests) == before


async def test_nothing_is_found(edge: Edge, stores: list[str]) -> None:
    response = await created(edge, body_of(stores, input="zebra"))
    assert [item["type"] for item in response["output"]] == ["file_search_call", "message"]
    assert said_before(edge) == []


async def test_only_as_many_searches_as_allowed(edge: Edge, stores: list[str]) -> None:
    tools = [{"type": "file_search", "vector_store_ids": [store]} for store in stores]
    body: dict[str, Any] = {"model": "words", "input": "sky", "tools": [WEATHER, *tools]}
    response = await created(edge, body)
    assert [item["type"] for item in response["output"]] == ["file_search_call"] * 2 + ["message"]
    response = await created(edge, body | {"max_tool_calls": 1})
    assert [item["type"] for item in response["output"]] == ["file_search_call", "message"]
    assert response["max_tool_calls"] == 1


REFUSED: list[tuple[dict[str, Any], str, int]] = [
    ({"vector_store_ids": None}, "tools[0].vector_store_ids", 400),
    ({"vector_store_ids": []}, "tools[0].vector_store_ids", 400),
    ({"vector_store_ids": ["vs_nothing"]}, "tools[0].vector_store_ids", 404),
    ({"max_num_results": 51}, "tools[0].max_num_results", 400),
    ({"filters": {"type": "eq", "key": "a"}}, "tools[0].filters.value", 400),
    ({"ranking_options": {"score_threshold": 2}}, "tools[0].ranking_options.score_threshold", 400),
]


@pytest.mark.parametrize(("tool", "param", "status"), REFUSED)
async def test_searches_refused(
    edge: Edge, stores: list[str], tool: dict[str, Any], param: str, status: int
) -> None:
    answer = await edge.http.post(RESPONSES, json=body_of(stores, tool=tool))
    assert error_of(answer, status)["param"] == param


async def test_failures_of_a_search(edge: Edge, stores: list[str]) -> None:
    for text, param in (("fails-INVALID_ARGUMENT-text", "input"), ("fails-QUEUE_FULL-x", None)):
        answer = await edge.http.post(RESPONSES, json=body_of(stores, input=text))
        error = error_of(answer, 503 if param is None else 400)
        if param is not None:
            assert error["param"] == param


async def test_leaving_ends_a_search(edge: Edge, stores: list[str]) -> None:
    peer = edge.vectors.retrieval
    asking = asyncio.create_task(edge.http.post(RESPONSES, json=body_of(stores, input="waiting")))
    await edge.backend.until(lambda: peer.live == len(stores))
    asking.cancel()
    await edge.backend.until(lambda: peer.live == 0)
    assert not edge.backend.requests
