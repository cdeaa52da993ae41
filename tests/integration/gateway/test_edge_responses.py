"""OpenAI's Responses API with a real inference service and database behind the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.dialects.openai import response_answer_schema as answers
from tests.integration.gateway.response_platform import (
    LIMITS,
    RESPONSES,
    WEATHER,
    Stack,
    called,
    stack,
)
from tests.integration.gateway.test_edge_vector_stores import error_of
from tests.postgres_server import empty_database

KEYS = [
    *("id", "object", "created_at", "status", "completed_at", "error", "incomplete_details"),
    *("instructions", "max_output_tokens", "model", "output", "parallel_tool_calls"),
    *("previous_response_id", "reasoning", "store", "temperature", "text", "tool_choice", "tools"),
    *("top_p", "truncation", "usage", "user", "metadata", "background", "max_tool_calls"),
    *("prompt_cache_key", "safety_identifier", "service_tier", "top_logprobs"),
]
UNKNOWN = "resp_" + "0" * 24


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(module_loop: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with stack(tmp_path_factory.mktemp("edge")) as stacked:
        yield stacked


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


def ids_are_plausible(response: dict[str, Any]) -> None:
    prefixes = {"message": "msg_", "function_call": "fc_"}
    assert len(response["id"]) == 29
    for item in response["output"]:
        assert item["id"].startswith(prefixes[item["type"]])
        assert len(item["id"]) == len(prefixes[item["type"]]) + 24


async def test_a_text(real: Stack) -> None:
    response = await real.create("Hello there", temperature=0, user="u", metadata={"a": "b"})
    assert list(response) == KEYS
    msgspec.convert(response, answers.Response, strict=True)
    ids_are_plausible(response)
    (message,) = response["output"]
    assert message == {
        "type": "message",
        "id": message["id"],
        "status": "completed",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "Hello there", "annotations": [], "logprobs": []}
        ],
    }
    assert response["object"] == "response"
    assert (response["status"], response["store"]) == ("completed", False)
    assert response["completed_at"] >= response["created_at"]
    assert (response["user"], response["metadata"]) == ("u", {"a": "b"})
    assert (response["temperature"], response["top_p"], response["tool_choice"]) == (0, 1, "auto")
    assert response["text"] == {"format": {"type": "text"}}
    assert response["reasoning"] == {"effort": None, "summary": None}
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types in order; deltas that follow one another count once."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    names = [event["type"] for event in events]
    return [
        name
        for number, name in enumerate(names)
        if not (name.endswith(".delta") and number and names[number - 1] == name)
    ]


async def test_a_stream(real: Stack) -> None:
    events = await real.stream("Hello there", temperature=0)
    assert kinds(events) == ORDER
    created, started, added, part, *_ = events
    assert created["response"] == started["response"]
    assert list(created["response"]) == KEYS
    assert (created["response"]["status"], created["response"]["usage"]) == ("in_progress", None)
    assert added["item"] | {"id": ""} == {
        "type": "message",
        "id": "",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    assert part["part"] == {
        "type": "output_text",
        "text": "",
        "annotations": [],
        "logprobs": [],
    }
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == "Hello there"
    item_id = added["item"]["id"]
    for event in events[3:-2]:
        assert (event["item_id"], event["output_index"], event["content_index"]) == (item_id, 0, 0)
    response = events[-1]["response"]
    assert events[-2]["item"] == response["output"][0]
    whole = await real.create("Hello there", temperature=0)
    changing = dict.fromkeys(("id", "created_at", "completed_at", "output"), 0)
    assert response | changing == whole | changing
    assert text_of(response) == text_of(whole)
    assert response["id"] == created["response"]["id"]


async def test_length_cuts(real: Stack) -> None:
    long = "x" * 40
    response = await real.create(long, max_output_tokens=16)
    assert (response["status"], response["completed_at"]) == ("incomplete", None)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert text_of(response) == "x" * 16
    events = await real.stream(long, max_output_tokens=16, store=True)
    assert kinds(events) == [*ORDER[:-1], "response.incomplete"]
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (await real.get(events[-1]["response"]["id"])) == events[-1]["response"]


async def test_calls_and_text_in_one_response(real: Stack) -> None:
    says = f"Let me see. {called('Paris')}\n{called('Rome')}"
    response = await real.create(says, tools=[WEATHER])
    assert [item["type"] for item in response["output"]] == [
        "message",
        "function_call",
        "function_call",
    ]
    ids_are_plausible(response)
    msgspec.convert(response, answers.Response, strict=True)
    first = response["output"][1]
    assert first | {"id": "", "call_id": ""} == {
        "type": "function_call",
        "id": "",
        "status": "completed",
        "call_id": "",
        "name": "weather",
        "arguments": '{"city": "Paris"}',
    }
    assert first["call_id"].startswith("call_")
    assert response["status"] == "completed"
    assert response["tools"] == [{**WEATHER, "strict": False}]
    events = await real.stream(says, tools=[WEATHER])
    call = [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert kinds(events) == [*ORDER[:-1], *call, *call, "response.completed"]
    output = events[-1]["response"]["output"]
    dones = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in dones] == [0, 1, 2]
    assert [event["item"] for event in dones] == output
    for index in (1, 2):
        own = [event for event in events if event.get("output_index") == index]
        pieces = [e["delta"] for e in own if e["type"] == call[1]]
        (done,) = [e for e in own if e["type"] == call[2]]
        assert "".join(pieces) == done["arguments"] == output[index]["arguments"]
        assert {e["item_id"] for e in own if "item_id" in e} == {output[index]["id"]}
        assert own[0]["item"]["arguments"] == ""


async def test_only_calls(real: Stack) -> None:
    response = await real.create(called("Paris"), tools=[WEATHER])
    assert [item["type"] for item in response["output"]] == ["function_call"]
    events = await real.stream(called("Paris"), tools=[WEATHER], store=True)
    assert "response.content_part.added" not in kinds(events)
    assert await real.get(events[-1]["response"]["id"]) == events[-1]["response"]
    one = await real.create(
        called("Paris") + called("Rome"), tools=[WEATHER], parallel_tool_calls=False
    )
    assert len(one["output"]) == 1


CHOICES: list[tuple[Any, list[str]]] = [
    ("auto", ["function_call"]),
    ("none", ["message"]),
    (
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "weather"}],
        },
        ["function_call"],
    ),
]


@pytest.mark.parametrize(("choice", "kinds"), CHOICES)
async def test_choices(real: Stack, choice: Any, kinds: list[str]) -> None:
    other = {"type": "function", "name": "other"}
    response = await real.create(called("Paris"), tools=[other, WEATHER], tool_choice=choice)
    assert [item["type"] for item in response["output"]] == kinds
    assert response["tool_choice"] == choice


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "weather"},
        "required",
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "weather"}],
        },
    ],
)
async def test_forced_calls(real: Stack, choice: Any) -> None:
    response = await real.create('{"city": "Paris"}', tools=[WEATHER], tool_choice=choice)
    assert response["output"][0]["type"] == "function_call"
    assert response["output"][0]["name"] == "weather"


async def test_a_conversation_by_hand(real: Stack) -> None:
    """What SDKs send back: the output items of a response, and what the functions returned."""
    asked: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": called("Oslo")}],
        },
    ]
    response = await real.create(asked, tools=[WEATHER])
    (call,) = response["output"]
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"}
    asked += [reasoning, call]
    asked.append({"type": "function_call_output", "call_id": call["call_id"], "output": "snow"})
    last = await real.create([*asked, {"role": "user", "content": "So?"}], tools=[WEATHER])
    assert text_of(last) == "So?"


async def test_logprobs(real: Stack) -> None:
    scored = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = await real.create("Hi", temperature=0, **scored)
    tokens = response["output"][0]["content"][0]["logprobs"]
    assert "".join(token["token"] for token in tokens) == "Hi"
    assert {len(token["top_logprobs"]) for token in tokens} == {2}
    assert response["top_logprobs"] == 2
    events = await real.stream("Hi", temperature=0, **scored)
    assert kinds(events) == ORDER
    pieces = [e["logprobs"] for e in events if e["type"] == "response.output_text.delta"]
    done = next(e for e in events if e["type"] == "response.output_text.done")
    assert [token for piece in pieces for token in piece] == done["logprobs"] == tokens


async def test_a_conversation_that_is_stored(real: Stack) -> None:
    first = await real.create("One", store=True, instructions="Be brief.")
    assert first["store"] is True
    assert await real.get(first["id"]) == first
    events = await real.stream("Two", store=True, previous_response_id=first["id"])
    second = events[-1]["response"]
    assert second["previous_response_id"] == first["id"]
    assert second["instructions"] is None
    assert await real.get(second["id"]) == second
    third = await real.create("Three", previous_response_id=second["id"])
    # Each turn is a user's and an assistant's; the instructions were of the first alone.
    plain = await real.create(
        [
            {"role": role, "content": text}
            for text in ("One", "Two")
            for role in ("user", "assistant")
        ]
        + [{"role": "user", "content": "Three"}]
    )
    assert third["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
    await real.get(third["id"], 404)


async def test_input_items(real: Stack) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    first = await real.create(
        [{"role": "user", "content": "One"}, {"role": "user", "content": called("Oslo")}],
        store=True,
        tools=[WEATHER],
    )
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "snow"}
    second = await real.create(
        [result, {"role": "user", "content": "Two"}],
        store=True,
        previous_response_id=first["id"],
    )
    page = await real.get(f"{second['id']}/input_items?order=asc")
    assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
    items = page["data"]
    assert [item["type"] for item in items] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert items[0] == {
        "id": items[0]["id"],
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "One"}],
    }
    assert items[2] == call
    assert items[3] | {"id": ""} == {**result, "id": "", "status": "completed"}
    assert len({item["id"] for item in items}) == 5
    assert (page["first_id"], page["last_id"]) == (items[0]["id"], items[-1]["id"])
    assert page["has_more"] is False
    seen: list[Any] = []
    after = ""
    while True:
        page = await real.get(f"{second['id']}/input_items?limit=2&after={after}")
        seen += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == items[::-1]
    error = error_of(await real.http.get(f"{RESPONSES}/{second['id']}/input_items?after=nothing"))
    assert error["param"] == "after"
    for query in ("limit=0", "limit=101", "order=up", "include[]=reasoning.encrypted_content"):
        error = error_of(await real.http.get(f"{RESPONSES}/{second['id']}/input_items?{query}"))
        assert error["param"].startswith(query.partition("=")[0].removesuffix("[]"))
    refused = await real.http.post(
        RESPONSES, json={"model": "echo", "input": [{"role": "user", "content": [image]}]}
    )
    assert error_of(refused)["param"] == "input[0]"


async def test_references_to_stored_items(real: Stack) -> None:
    first = await real.create("One", store=True)
    (said,) = first["output"]
    (asked,) = (await real.get(f"{first['id']}/input_items"))["data"]
    more = [
        {"type": "item_reference", "id": asked["id"]},
        {"id": said["id"]},
        {"role": "user", "content": "Two"},
    ]
    second = await real.create(more, store=True)
    follow = await real.create("Two", previous_response_id=first["id"])
    assert second["usage"]["input_tokens"] == follow["usage"]["input_tokens"]
    page = await real.get(f"{second['id']}/input_items?order=asc")
    assert page["data"][:2] == [asked, said]
    body = {"model": "echo", "input": [{"role": "user", "content": "a"}, {"id": "msg_nothing"}]}
    error = error_of(await real.http.post(RESPONSES, json=body), 404)
    assert error["param"] == "input"
    assert "msg_nothing" in error["message"]
    async with real.as_("your-token") as you:
        error_of(await you.post(RESPONSES, json={"model": "echo", "input": more}), 404)


async def test_others_find_nothing(real: Stack) -> None:
    mine = (await real.create("One", store=True))["id"]
    async with real.as_("your-token") as you:
        for method, path in (
            ("GET", mine),
            ("GET", f"{mine}/input_items"),
            ("DELETE", mine),
            ("POST", f"{mine}/cancel"),
        ):
            error = error_of(await you.request(method, f"{RESPONSES}/{path}"), 404)
            assert mine in error["message"]
        body = {"model": "echo", "input": "Two", "previous_response_id": mine}
        error = error_of(await you.post(RESPONSES, json=body))
    assert (error["param"], error["code"]) == (
        "previous_response_id",
        "previous_response_not_found",
    )
    assert (await real.get(mine))["id"] == mine


@pytest.mark.parametrize("id", [UNKNOWN, "nothing", "resp_1", "%00", "a%20b", "ü"])
async def test_unknown_responses(real: Stack, id: str) -> None:
    for method, path in (
        ("GET", id),
        ("GET", f"{id}/input_items"),
        ("DELETE", id),
        ("POST", f"{id}/cancel"),
    ):
        error = error_of(await real.http.request(method, f"{RESPONSES}/{path}"), 404)
        assert (error["type"], error["code"]) == ("invalid_request_error", None)
    body = {"model": "echo", "input": "Two", "previous_response_id": id}
    assert error_of(await real.http.post(RESPONSES, json=body))["param"] == "previous_response_id"


async def test_deleting(real: Stack) -> None:
    id = (await real.create("One", store=True))["id"]
    later = (await real.create("Two", store=True, previous_response_id=id))["id"]
    answer = await real.http.delete(f"{RESPONSES}/{id}")
    assert answer.json() == {"id": id, "object": "response", "deleted": True}
    error_of(await real.http.delete(f"{RESPONSES}/{id}"), 404)
    await real.get(id, 404)
    body = {"model": "echo", "input": "Three", "previous_response_id": later}
    error = error_of(await real.http.post(RESPONSES, json=body))
    assert (error["param"], error["type"]) == ("previous_response_id", "invalid_request_error")


async def test_nothing_that_is_whole_is_cancelled_or_streamed(real: Stack) -> None:
    id = (await real.create("One", store=True))["id"]
    assert "synchronous" in error_of(await real.http.post(f"{RESPONSES}/{id}/cancel"))["message"]
    error = error_of(await real.http.get(f"{RESPONSES}/{id}?stream=true"))
    assert (error["param"], error["code"]) == ("stream", "unsupported_parameter")
    assert (await real.get(f"{id}?stream=false&include[]=message.output_text.logprobs"))["id"] == id


async def test_responses_expire(real: Stack) -> None:
    id = (await real.create("One", store=True))["id"]
    real.clock.now += LIMITS.lasts
    await real.get(id, 404)
    real.clock.now -= timedelta(seconds=1)
    await real.get(id)


async def test_conversations_end_somewhere(real: Stack) -> None:
    last: dict[str, Any] = {}
    for _ in range(LIMITS.most_responses):
        last = {"previous_response_id": (await real.create("a", store=True, **last))["id"]}
    error = error_of(await real.http.post(RESPONSES, json={"model": "echo", "input": "a", **last}))
    assert error["param"] == "previous_response_id"
    assert "too long" in error["message"]


async def test_responses_outlive_their_service(tmp_path: Path) -> None:
    async with stack(tmp_path) as first:
        response = await first.create("One", store=True)
    async with stack(tmp_path) as second:
        assert await second.get(response["id"]) == response
        await second.create("Two", previous_response_id=response["id"])


async def test_postgres(postgres: str, tmp_path: Path) -> None:
    async with empty_database(postgres) as url, stack(tmp_path, url) as real:
        first = await real.create("One \u0000 \u2028 ü", store=True)
        assert await real.get(first["id"]) == first
        events = await real.stream("Two", store=True, previous_response_id=first["id"])
        page = await real.get(f"{events[-1]['response']['id']}/input_items")
        assert [item["type"] for item in page["data"]] == ["message"] * 3


async def test_a_response_that_can_not_be_kept_fails(real: Stack) -> None:
    first = await real.create("One", store=True)
    previous = {"store": True, "previous_response_id": first["id"]}
    async with real.http.stream(
        "POST",
        RESPONSES,
        json={"model": "slow", "input": "Two" * 20, "stream": True, **previous},
    ) as answer:
        pieces = aiter(answer.aiter_text())
        text = await anext(pieces)
        await real.http.delete(f"{RESPONSES}/{first['id']}")
        text += "".join([piece async for piece in pieces])
    last = text.split("\n\n")[-2]
    assert last.startswith("event: response.failed\n")
    assert '"status":"failed"' in last
    assert '"code":"server_error"' in last
    assert "Two" in last


async def test_names_of_models(real: Stack) -> None:
    response = await real.create("Hi", model="org/alias")
    assert response["model"] == "org/alias"
    body = {"model": "nothing", "input": "Hi"}
    assert error_of(await real.http.post(RESPONSES, json=body), 404)["code"] == "model_not_found"
    error = error_of(await real.http.post(RESPONSES, json={**body, "stream": True}), 404)
    assert error["param"] == "model"


async def test_methods(real: Stack) -> None:
    for method, path, allow in (
        ("GET", RESPONSES, "POST"),
        ("POST", f"{RESPONSES}/{UNKNOWN}", "GET"),
        ("DELETE", f"{RESPONSES}/{UNKNOWN}/input_items", "GET"),
        ("GET", f"{RESPONSES}/{UNKNOWN}/cancel", "POST"),
    ):
        answer = await real.http.request(method, path)
        assert error_of(answer, 405)["code"] == "method_not_supported"
        assert allow in answer.headers["allow"]
    async with real.as_("wrong") as nobody:
        error_of(await nobody.get(f"{RESPONSES}/{UNKNOWN}"), 401)
