"""Anthropic's dialect before the real services."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.integration.gateway.echo_platform import CHAT, SLOW, TOKEN, EchoPlatform, echo_platform

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
TOOL = {"name": "f", "description": "F.", "input_schema": {"type": "object"}}


def asked(text: Any = "once upon a time", **changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": CHAT, "max_tokens": 512, "messages": messages} | changes


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for event in answer.text.split("\n\n")[:-1]:
        kind, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def error(answer: httpx.Response, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    return body["error"]["message"]


async def test_a_whole_message(whole: EchoPlatform) -> None:
    answer = await whole.http.post(PATH, json=asked(system="Be brief."))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    body = answer.json()
    assert body["id"].startswith("msg_")
    assert len(body["id"]) == len("msg_") + 24
    assert body["content"] == [{"type": "text", "text": "once upon a time"}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"]["input_tokens"] > 0
    assert body["usage"]["output_tokens"] > 0


async def test_a_stream_says_what_the_whole_says(whole: EchoPlatform) -> None:
    text = "“once”\n\u2028upon a time"
    said = (await whole.http.post(PATH, json=asked(text))).json()
    stream = events(await whole.http.post(PATH, json=asked(text, stream=True)))
    kinds = [event["type"] for event in stream]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert "".join(event["delta"]["text"] for event in stream[3:-3]) == text
    assert said["content"] == [{"type": "text", "text": text}]
    end = stream[-2]
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    total = sum(end["usage"].values())
    assert total == sum(said["usage"].values())  # a cache may have had another share
    assert stream[0]["message"]["content"] == []
    begun, ended = stream[0]["message"]["usage"], end["usage"]
    assert begun["input_tokens"] == ended["input_tokens"] + ended["cache_read_input_tokens"] > 0
    assert begun["output_tokens"] == 0


async def test_where_it_stops(whole: EchoPlatform) -> None:
    body = (await whole.http.post(PATH, json=asked("a b END c", stop_sequences=["END"]))).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")
    assert body["content"][0]["text"] == "a b "
    body = (await whole.http.post(PATH, json=asked(max_tokens=4))).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("max_tokens", None)
    assert body["usage"]["output_tokens"] == 4
    for stream in (False, True):  # reads the prompt, and no more
        answer = await whole.http.post(PATH, json=asked(max_tokens=0, stream=stream))
        end = events(answer)[-2] if stream else answer.json()
        assert end["usage"]["output_tokens"] == 0
        assert (end["delta"] if stream else end)["stop_reason"] == "max_tokens"
    stopped = asked("a b END c", stop_sequences=["END"], stream=True)
    end = events(await whole.http.post(PATH, json=stopped))[-2]
    assert end["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


async def test_a_call_of_a_tool_and_its_result(whole: EchoPlatform) -> None:
    body = (await whole.http.post(PATH, json=asked(CALL, tools=[TOOL]))).json()
    assert body["stop_reason"] == "tool_use"
    (call,) = body["content"]
    assert call["type"] == "tool_use"
    assert call["id"].startswith("toolu_")
    assert (call["name"], call["input"]) == ("f", {"a": 1})

    stream = events(await whole.http.post(PATH, json=asked(CALL, tools=[TOOL], stream=True)))
    start = next(event for event in stream if event["type"] == "content_block_start")
    assert start["content_block"]["input"] == {}
    pieces = [
        event["delta"]["partial_json"] for event in stream if event["type"] == "content_block_delta"
    ]
    assert json.loads("".join(pieces)) == {"a": 1}
    assert stream[-2]["delta"]["stop_reason"] == "tool_use"

    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "42"}
    turns = [
        {"role": "user", "content": CALL},
        {"role": "assistant", "content": body["content"]},
        {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
    ]
    body = (await whole.http.post(PATH, json=asked(messages=turns, tools=[TOOL]))).json()
    assert body["content"] == [{"type": "text", "text": "so?"}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ],
)
async def test_what_is_counted_is_what_is_used(
    whole: EchoPlatform, changes: dict[str, Any]
) -> None:
    body = asked("“once” upon", **changes)
    counted = (await whole.http.post(COUNT, json=body)).json()
    usage = (await whole.http.post(PATH, json=body)).json()["usage"]
    used = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert counted == {"input_tokens": used}


async def test_credentials(whole: EchoPlatform) -> None:
    async with httpx.AsyncClient(base_url=whole.url) as http:
        for headers in ({"x-api-key": TOKEN}, {"authorization": f"bearer {TOKEN}"}):
            versioned = headers | {"anthropic-version": "2023-06-01"}
            answer = await http.post(PATH, json=asked(max_tokens=1), headers=versioned)
            assert answer.status_code == 200, answer.text
        for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": "ö"}):
            for path in (PATH, COUNT):
                raw = [(k.encode(), v.encode()) for k, v in headers.items()]
                answer = await http.post(path, json=asked(), headers=raw)
                error(answer, 401, "authentication_error")


async def test_refusals(whole: EchoPlatform) -> None:
    http = whole.http
    error(await http.post(PATH, json=asked(model="none")), 404, "not_found_error")
    error(await http.post(COUNT, json=asked(model="none")), 404, "not_found_error")
    error(await http.get(PATH), 405, "invalid_request_error")
    error(await http.post(f"{PATH}/batches", json={}), 404, "not_found_error")
    error(await http.post(PATH, content=b"{"), 400, "invalid_request_error")
    error(await http.post(PATH, content=b"x" * (64 * 1024 * 1024 + 1)), 413, "request_too_large")
    said = error(await http.post(PATH, json={"model": CHAT}), 400, "invalid_request_error")
    assert "'messages'" in said
    long = asked(max_tokens=10_000_000)
    assert "'messages'" in error(await http.post(PATH, json=long), 400, "invalid_request_error")
    for path in (PATH, COUNT):
        said = error(await http.post(path, json=asked([IMAGE])), 400, "invalid_request_error")
        assert "messages[0].content[0].source" in said
    assert (await http.get("/v1/models")).json()["object"] == "list"  # OpenAI's


IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
}


async def test_who_leaves_frees_the_engine(whole: EchoPlatform) -> None:
    body = asked("x" * 2000, model=SLOW, max_tokens=2000, stream=True)
    async with whole.http.stream("POST", PATH, json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if "text_delta" in line:
                break
        assert whole.running == 1
    async with asyncio.timeout(10):
        while whole.running:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.01)


async def test_pages_of_other_origins(whole: EchoPlatform) -> None:
    wanted = "x-api-key, anthropic-version, anthropic-dangerous-direct-browser-access"
    asks = {
        "origin": "https://a.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": wanted,
    }
    answer = await whole.http.options(PATH, headers=asks)
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(wanted.split(", ")) <= set(allowed)
    assert "request-id" in answer.headers["access-control-expose-headers"].split(", ")


async def test_what_may_still_be_done_is_told(tmp_path: Any) -> None:
    async with echo_platform(tmp_path, max_requests_per_minute=1) as whole:
        answer = await whole.http.post(PATH, json=asked(max_tokens=1))
        assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
        answer = await whole.http.post(PATH, json=asked())
        error(answer, 429, "rate_limit_error")
        assert int(answer.headers["retry-after"]) > 0
