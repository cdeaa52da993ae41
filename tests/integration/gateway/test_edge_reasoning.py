"""Thoughts in OpenAI's dialect, before real services and with OpenAI's own clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.inference import prompts
from services.inference.requests import Message
from tests.integration.gateway.echo_platform import CHAT, EchoPlatform, echo_platform
from tests.integration.gateway.plain_model import PLAIN, plain_model
from tests.integration.gateway.response_platform import WEATHER, Stack, called, stack

SAID = "<think>hm, “so”\u2028</think>the answer"
THOUGHT, TEXT = "hm, “so”", "the answer"
CLIENTS = Path(__file__).parents[3] / ".venv" / "clients"
SESSION = """
import sys
import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], max_retries=0)
said, thought, text = sys.argv[3:]
ask = {"model": "echo", "messages": [{"role": "user", "content": said}]}
whole = client.chat.completions.create(**ask)
message = whole.choices[0].message
assert (message.content, message.reasoning_content) == (text, thought), message
assert whole.usage.completion_tokens_details.reasoning_tokens > 0
deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**ask, stream=True)]
assert "".join(delta.content or "" for delta in deltas) == text
assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == thought
ask["messages"] += [message.model_dump(exclude_none=True), {"role": "user", "content": "So?"}]
options = {"chat_template_kwargs": {"enable_thinking": True}}
again = client.chat.completions.create(**ask, extra_body=options)
assert again.choices[0].message.content == "So?"

response = client.responses.create(model="echo", input=said, store=True)
reasoning, answer = response.output
assert reasoning.type == "reasoning", reasoning
assert [(part.type, part.text) for part in reasoning.content] == [("reasoning_text", thought)]
assert response.output_text == text
assert response.usage.output_tokens_details.reasoning_tokens > 0
with client.responses.stream(model="echo", input=said) as stream:
    events = list(stream)
    final = stream.get_final_response()
assert [event.sequence_number for event in events] == list(range(len(events)))
pieces = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
assert "".join(pieces) == thought
assert [item.type for item in final.output] == ["reasoning", "message"]
assert final.output[0].content[0].text == thought
assert final.output_text == text
following = client.responses.create(
    model="echo", input="So?", previous_response_id=response.id, reasoning={"effort": "none"}
)
assert following.output_text == "So?"
back = [{"role": "user", "content": said}, *final.output, {"role": "user", "content": "So?"}]
assert client.responses.create(model="echo", input=back).output_text == "So?"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echo(
    module_loop: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EchoPlatform]:
    folder = tmp_path_factory.mktemp("echo")
    async with echo_platform(folder) as platform, plain_model(platform):
        yield platform


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(module_loop: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with stack(tmp_path_factory.mktemp("edge")) as stacked:
        yield stacked


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str, str]]]:
    """What the service's models were given: of each prompt, who said what, and thought what."""
    seen: list[list[tuple[str, str, str]]] = []
    rendered = prompts.prompt_ids

    def noted(served: Any, messages: tuple[Message, ...], *rest: Any, **more: Any) -> Any:
        seen.append([(turn.speaker.value, turn.text, turn.reasoning) for turn in messages])
        return rendered(served, messages, *rest, **more)

    monkeypatch.setattr(prompts, "prompt_ids", noted)
    return seen


def chat(text: str = SAID, **more: Any) -> dict[str, Any]:
    return {"model": CHAT, "messages": [{"role": "user", "content": text}], **more}


async def said(echo: EchoPlatform, **body: Any) -> dict[str, Any]:
    answer = await echo.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def deltas(echo: EchoPlatform, **body: Any) -> list[dict[str, Any]]:
    answer = await echo.http.post("/v1/chat/completions", json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    *frames, last, rest = answer.text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    choices = [json.loads(frame.removeprefix("data: "))["choices"][0] for frame in frames]
    return [choice["delta"] for choice in choices]


async def refusal(echo: EchoPlatform, **body: Any) -> dict[str, Any]:
    answer = await echo.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


async def test_a_chat_tells_thoughts_apart(echo: EchoPlatform) -> None:
    whole = await said(echo, **chat(n=2))
    for choice in whole["choices"]:
        assert choice["message"]["content"] == TEXT
        assert choice["message"]["reasoning_content"] == THOUGHT
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    told = await deltas(echo, **chat())
    thoughts = [delta for delta in told if "reasoning_content" in delta]
    assert told[1 : 1 + len(thoughts)] == thoughts, "they come before the text"
    assert "".join(delta["reasoning_content"] for delta in thoughts) == THOUGHT
    assert "".join(delta.get("content", "") for delta in told) == TEXT


async def test_logprobs_are_those_of_the_text(echo: EchoPlatform) -> None:
    whole = await said(echo, **chat(logprobs=True))
    tokens = whole["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == TEXT


async def test_without_a_thought_nothing_is_told_of_one(echo: EchoPlatform) -> None:
    whole = await said(echo, **chat(TEXT))
    assert "reasoning_content" not in whole["choices"][0]["message"]
    assert not any("reasoning_content" in delta for delta in await deltas(echo, **chat(TEXT)))


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_thoughts_come_back_to_the_model(
    echo: EchoPlatform, read: list[list[tuple[str, str, str]]], name: str
) -> None:
    turn = {"role": "assistant", "content": "Hi", name: "hm"}
    messages = [{"role": "user", "content": "Hello"}, turn, {"role": "user", "content": "So?"}]
    await said(echo, model=CHAT, messages=messages)
    assert read[-1] == [("user", "Hello", ""), ("assistant", "Hi", "hm"), ("user", "So?", "")]


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
async def test_models_that_do_not_think(echo: EchoPlatform, switch: str) -> None:
    body = {**chat(TEXT), "model": PLAIN}
    for stream in (False, True):
        error = await refusal(echo, **body, stream=stream, chat_template_kwargs={switch: True})
        assert error["param"] == f"chat_template_kwargs.{switch}"
        assert error["param"] in error["message"]
        assert error["code"] == "unsupported_parameter"
    for fields in (
        {"chat_template_kwargs": {switch: False}},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "high"},
    ):
        whole = await said(echo, **body, **fields)
        assert whole["choices"][0]["message"]["content"] == TEXT


async def test_other_variables_of_templates_are_refused(echo: EchoPlatform) -> None:
    error = await refusal(echo, **chat(chat_template_kwargs={"language": "de"}))
    assert error["param"] == "chat_template_kwargs.language"
    assert error["code"] == "unsupported_parameter"


async def test_the_document_shows_them(echo: EchoPlatform) -> None:
    document = (await echo.http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {"reasoning_content", "reasoning"} <= set(schemas["ChatMessage"]["properties"])
    assert "reasoning_content" in schemas["AnswerMessage"]["properties"]
    assert "reasoning_content" not in schemas["AnswerMessage"]["required"]
    assert "chat_template_kwargs" in schemas["ChatCompletionRequest"]["properties"]
    switches = schemas["TemplateSwitches"]
    assert set(switches["properties"]) == {"enable_thinking", "thinking"}
    assert switches["additionalProperties"] is False
    items = json.dumps(schemas["Response"]["properties"]["output"])
    assert "#/components/schemas/ReasoningItem" in items
    assert "content" in schemas["ReasoningItem"]["properties"]


async def test_a_response_that_is_stored(
    real: Stack, read: list[list[tuple[str, str, str]]]
) -> None:
    first = await real.create(SAID, store=True)
    reasoning, message = first["output"]
    content = [{"type": "reasoning_text", "text": THOUGHT}]
    assert reasoning.pop("id").startswith("rs_")
    assert reasoning == {
        "type": "reasoning",
        "summary": [],
        "content": content,
        "status": "completed",
    }
    assert message["content"][0]["text"] == TEXT
    assert (await real.get(first["id"]))["output"][0]["content"] == content
    events = await real.stream("Two", store=True, previous_response_id=first["id"])
    assert read[-1] == [("user", SAID, ""), ("assistant", TEXT, THOUGHT), ("user", "Two", "")]
    second = events[-1]["response"]
    items = await real.get(f"{second['id']}/input_items?order=asc")
    assert [item["type"] for item in items["data"]] == [
        "message",
        "reasoning",
        "message",
        "message",
    ]
    assert items["data"][1]["content"] == content
    # What is stored can be referred to.
    reference = {"type": "item_reference", "id": items["data"][1]["id"]}
    await real.create(
        [reference, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    )
    assert read[-1] == [("assistant", "b", THOUGHT), ("user", "c", "")]


async def test_a_response_that_thinks_and_calls(
    real: Stack, read: list[list[tuple[str, str, str]]]
) -> None:
    asked = f"<think>{THOUGHT}</think>{called('Oslo')}"
    events = await real.stream(asked, tools=[WEATHER], store=True)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "function_call"]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1]
    output = {
        "type": "function_call_output",
        "call_id": response["output"][1]["call_id"],
        "output": "snow",
    }
    await real.create([output], previous_response_id=response["id"], tools=[WEATHER])
    assert read[-1] == [("user", asked, ""), ("assistant", "", THOUGHT), ("tool", "snow", "")]


async def test_a_response_that_is_cut_while_it_thinks(
    real: Stack, read: list[list[tuple[str, str, str]]]
) -> None:
    asked = f"<think>{'x' * 100}</think>y"
    whole = await real.create(asked, max_output_tokens=16, store=True)
    streamed = (await real.stream(asked, max_output_tokens=16))[-1]["response"]
    for response in (whole, streamed):
        assert response["status"] == "incomplete"
        (item,) = response["output"]
        assert (item["type"], item["status"]) == ("reasoning", "incomplete")
    thought = whole["output"][0]["content"][0]["text"]
    assert set(thought) == {"x"}
    assert streamed["output"][0]["content"][0]["text"] == thought
    await real.create("So?", previous_response_id=whole["id"])
    assert read[-1] == [("user", asked, ""), ("assistant", "", thought), ("user", "So?", "")]


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
async def test_openai_s_client(real: Stack, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", SESSION, real.url, "my-token", SAID, THOUGHT, TEXT),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
