"""Thoughts in Anthropic's dialect, before the real services and with Anthropic's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.gateway.echo_platform import CHAT, TOKEN, EchoPlatform, echo_platform
from tests.integration.gateway.plain_model import PLAIN, plain_model

PATH = "/v1/messages"
TOOL = {"name": "f", "input_schema": {"type": "object"}}
ENABLED = {"type": "enabled", "budget_tokens": 1024}
THOUGHT = {"type": "thinking", "thinking": "hm, “so”", "signature": "penstock"}
TEXT = {"type": "text", "text": "the answer"}
SAID = "<think>hm, “so”</think>the answer"
CLIENTS = Path(__file__).parents[3] / ".venv" / "clients"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    module_loop: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EchoPlatform]:
    folder = tmp_path_factory.mktemp("echo")
    async with echo_platform(folder) as platform, plain_model(platform):
        yield platform


def asked(text: str = SAID, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": CHAT, "max_tokens": 2048, "messages": messages} | changes


async def content(whole: EchoPlatform, **changes: Any) -> list[dict[str, Any]]:
    answer = await whole.http.post(PATH, json=asked(**changes))
    assert answer.status_code == 200, answer.text
    return answer.json()["content"]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def refusal(whole: EchoPlatform, **changes: Any) -> str:
    for stream in (False, True):
        answer = await whole.http.post(PATH, json=asked(stream=stream, **changes))
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"
    return answer.json()["error"]["message"]


@pytest.mark.parametrize("thinking", [ENABLED, {"type": "adaptive"}])
async def test_thoughts_come_before_the_answer(
    whole: EchoPlatform, thinking: dict[str, Any]
) -> None:
    answer = (await whole.http.post(PATH, json=asked(thinking=thinking))).json()
    assert answer["content"] == [THOUGHT, TEXT]
    thought = answer["usage"]["output_tokens_details"]["thinking_tokens"]
    assert 0 < thought < answer["usage"]["output_tokens"]

    stream = events(await whole.http.post(PATH, json=asked(thinking=thinking, stream=True)))
    kinds = [event["type"] for event in stream if event["type"] != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert kinds == [
        "message_start",
        *("content_block_start", "ping", "content_block_stop"),
        *block,
        "message_delta",
        "message_stop",
    ]
    first = [event["delta"] for event in stream if event.get("index") == 0 and "delta" in event]
    assert "".join(delta["thinking"] for delta in first[:-1]) == THOUGHT["thinking"]
    assert first[-1] == {"type": "signature_delta", "signature": THOUGHT["signature"]}
    assert stream[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": thought}


@pytest.mark.parametrize("changes", [{}, {"thinking": None}, {"thinking": {"type": "disabled"}}])
async def test_thoughts_are_not_shown_unless_asked_for(
    whole: EchoPlatform, changes: dict[str, Any]
) -> None:
    assert await content(whole, **changes) == [TEXT]
    stream = events(await whole.http.post(PATH, json=asked(stream=True, **changes)))
    blocks = [event["content_block"]["type"] for event in stream if "content_block" in event]
    assert blocks == ["text"]


async def test_thoughts_may_be_left_out(whole: EchoPlatform) -> None:
    thinking = ENABLED | {"display": "omitted"}
    assert await content(whole, thinking=thinking) == [THOUGHT | {"thinking": ""}, TEXT]
    stream = events(await whole.http.post(PATH, json=asked(thinking=thinking, stream=True)))
    deltas = [event["delta"]["type"] for event in stream if event["type"] == "content_block_delta"]
    assert deltas[0] == "signature_delta"
    assert set(deltas[1:]) == {"text_delta"}


async def test_thoughts_go_back_with_calls_and_results(whole: EchoPlatform) -> None:
    called = '<think>look</think><tool_call>{"name": "f", "arguments": {}}</tool_call>'
    first = await content(whole, text=called, thinking=ENABLED, tools=[TOOL])
    assert [block["type"] for block in first] == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": first[1]["id"], "content": "42"}
    turns = [
        {"role": "user", "content": called},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, *first]},
        {"role": "user", "content": [result, {"type": "text", "text": SAID}]},
    ]
    more = await content(whole, messages=turns, thinking=ENABLED, tools=[TOOL])
    assert more == [THOUGHT, TEXT]
    counted = await whole.http.post(
        f"{PATH}/count_tokens", json={"model": CHAT, "messages": turns, "thinking": ENABLED}
    )
    assert counted.json()["input_tokens"] > 0


async def test_models_that_do_not_think(whole: EchoPlatform) -> None:
    said = await refusal(whole, model=PLAIN, thinking=ENABLED)
    assert "'thinking.type'" in said
    assert "'reasoning'" not in said
    for thinking in ({"type": "adaptive"}, {"type": "disabled"}, None):
        assert await content(whole, text="hi", model=PLAIN, thinking=thinking) == [
            {"type": "text", "text": "hi"}
        ]
    adaptive = asked("hi", model=PLAIN, thinking={"type": "adaptive"}, stream=True)
    assert events(await whole.http.post(PATH, json=adaptive))[-1] == {"type": "message_stop"}


async def test_refusals(whole: EchoPlatform) -> None:
    said = await refusal(whole, thinking=ENABLED | {"budget_tokens": 1023})
    assert "'thinking.budget_tokens'" in said
    assert "'thinking.budget_tokens'" in await refusal(whole, thinking={"type": "enabled"})
    said = await refusal(whole, thinking=ENABLED, max_tokens=1024)
    assert said == "`max_tokens` must be greater than `thinking.budget_tokens`."
    for choice in ({"type": "any"}, {"type": "tool", "name": "f"}):
        said = await refusal(whole, thinking=ENABLED, tools=[TOOL], tool_choice=choice)
        assert said == "Thinking may not be enabled when tool_choice forces tool use."
    block = {"type": "thinking", "signature": "s"}
    turns = [{"role": "assistant", "content": [block]}, {"role": "user", "content": "x"}]
    assert "messages[0].content[0].thinking" in await refusal(whole, messages=turns)


async def test_the_description_has_thoughts(whole: EchoPlatform) -> None:
    schemas = (await whole.http.get("/openapi.json")).json()["components"]["schemas"]
    assert set(schemas["Thinking"]["properties"]) == {"type", "budget_tokens", "display"}
    assert {"thinking", "signature", "data"} <= set(schemas["ContentBlock"]["properties"])
    assert "ThinkingBlock" in json.dumps(schemas["MessageAnswer"])
    assert set(schemas["ThinkingBlock"]["properties"]) == {"type", "thinking", "signature"}


SESSION = """
import sys, anthropic
url, key, model, said = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=60)
asked = {
    "model": model,
    "max_tokens": 2048,
    "messages": [{"role": "user", "content": said}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}
whole = client.messages.create(**asked)
assert [block.type for block in whole.content] == ["thinking", "text"], whole
with client.messages.stream(**asked) as stream:
    events = list(stream)
    final = stream.get_final_message()
assert final.content[0].to_dict() == whole.content[0].to_dict(), final
assert final.content[1].text == whole.content[1].text, final
thoughts = [event.thinking for event in events if event.type == "thinking"]
assert "".join(thoughts) == whole.content[0].thinking
assert [event.signature for event in events if event.type == "signature"] == ["penstock"]
turns = [*asked["messages"], {"role": "assistant", "content": whole.content}, *asked["messages"]]
again = client.messages.create(**asked | {"messages": turns})
assert again.content[0].thinking == whole.content[0].thinking
print(whole.content[0].thinking, whole.content[1].text, sep="|")
"""


@pytest.mark.parametrize("name", ["anthropic-0", "anthropic-2"])
async def test_anthropic_python(whole: EchoPlatform, name: str) -> None:
    client = await asyncio.create_subprocess_exec(
        *(CLIENTS / name / "bin" / "python", "-c", SESSION, whole.url, TOKEN, CHAT, SAID),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await client.communicate()
    assert client.returncode == 0, err.decode()
    assert out.decode() == "hm, “so”|the answer\n"
