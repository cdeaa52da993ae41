"""Scenarios with anthropic-python 0.x (`X-Api-Key`) and 2.x (`Authorization`).

`python anthropic_session.py URL KEY MODEL`, in the client's own environment, runs all of them; a
failed assertion is a failed test.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import anthropic

HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "Tell me a story"}]
WEATHER = {
    "name": "get_weather",
    "description": "Gets the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Session:
    """A client, and the model that it asks."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self.client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=90)
        self.stranger = self.client.with_options(api_key="wrong")
        self.model = model

    def asked(self, messages: Any = HELLO, **changes: Any) -> dict[str, Any]:
        # Later versions know `temperature` no more; what they don't know goes beside the rest.
        return {
            "model": self.model,
            "max_tokens": 64,
            "messages": messages,
            "extra_body": {"temperature": 0},
        } | changes


def prompt_tokens(usage: Any) -> int:
    return (
        usage.input_tokens
        + (usage.cache_read_input_tokens or 0)
        + (usage.cache_creation_input_tokens or 0)
    )


def message(session: Session) -> None:
    answer = session.client.messages.create(**session.asked(system="Be brief."))
    assert answer.id.startswith("msg_")
    assert answer.type == "message"
    assert answer.role == "assistant"
    assert answer.model == session.model
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text
    assert answer.stop_reason in {"end_turn", "max_tokens"}
    assert answer.usage.output_tokens > 0
    assert answer._request_id


def stream(session: Session) -> None:
    whole = session.client.messages.create(**session.asked(STORY))
    events = list(session.client.messages.create(**session.asked(STORY), stream=True))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert {delta.type for delta in deltas} == {"text_delta"}
    assert "".join(delta.text for delta in deltas) == whole.content[0].text
    (end,) = [event for event in events if event.type == "message_delta"]
    assert end.delta.stop_reason == whole.stop_reason
    assert events[0].message.usage.input_tokens == prompt_tokens(whole.usage)
    assert end.usage.output_tokens == whole.usage.output_tokens


def stream_helper(session: Session) -> None:
    whole = session.client.messages.create(**session.asked(STORY))
    with session.client.messages.stream(**session.asked(STORY)) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert prompt_tokens(final.usage) == prompt_tokens(whole.usage)


def count(session: Session) -> None:
    for more in ({}, {"system": "Be brief."}, {"tools": [WEATHER]}):
        asked = session.asked(**more)
        answer = session.client.messages.create(**asked)
        del asked["max_tokens"], asked["extra_body"]
        counted = session.client.messages.count_tokens(**asked)
        assert counted.input_tokens == prompt_tokens(answer.usage), more


def tools(session: Session) -> None:
    """Calls a tool, whole and streamed, and tells what it returned."""
    ask = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked = session.asked(
        ask, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=128
    )
    answer = session.client.messages.create(**asked)
    (call,) = answer.content
    assert call.type == "tool_use"
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str), call
    assert answer.stop_reason == "tool_use"
    with session.client.messages.stream(**asked) as events:
        kinds = [event.type for event in events]
        (streamed,) = events.get_final_message().content
    assert "input_json" in kinds
    assert streamed.input == call.input
    assert streamed.name == call.name

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It rains."}
    turns = [
        *ask,
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    answer = session.client.messages.create(**session.asked(turns, tools=[WEATHER]))
    assert answer.content


def forms(session: Session) -> None:
    """Holds an answer, and the input of a tool that must be called, to a schema."""
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    body = {"temperature": 0, "output_config": form}
    answer = session.client.messages.create(**session.asked(extra_body=body))
    assert answer.stop_reason == "end_turn"
    assert isinstance(json.loads(answer.content[0].text)["sure"], bool)

    tools = [{"name": name, "input_schema": schema, "strict": True} for name in ("yes", "no")]
    choice = {"type": "any", "disable_parallel_tool_use": True}
    answer = session.client.messages.create(
        **session.asked(tools=tools, tool_choice=choice, extra_body={}, max_tokens=200)
    )
    (call,) = answer.content
    assert call.name in {"yes", "no"}
    assert answer.stop_reason == "tool_use"
    assert isinstance(call.input["sure"], bool)


def stops(session: Session) -> None:
    whole = session.client.messages.create(**session.asked(STORY))
    text = whole.content[0].text
    word = text.split()[2]
    answer = session.client.messages.create(**session.asked(STORY, stop_sequences=[word]))
    assert answer.stop_reason == "stop_sequence"
    assert answer.stop_sequence == word
    assert "".join(block.text for block in answer.content) == text[: text.index(word)]
    answer = session.client.messages.create(**session.asked(STORY, max_tokens=2))
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 2


def refusal(kind: type[Any], call: Callable[[], Any]) -> Any:
    found: anthropic.APIStatusError | None = None
    try:
        call()
    except anthropic.APIStatusError as error:
        found = error
    assert isinstance(found, kind), found
    assert found.request_id
    assert found.body["type"] == "error"
    return found


def errors(session: Session) -> None:
    messages = session.client.messages

    def created(**changes: Any) -> Callable[[], Any]:
        return lambda: messages.create(**session.asked(**changes))

    stranger = session.stranger.messages
    error = refusal(
        anthropic.AuthenticationError, lambda: stranger.create(**session.asked(max_tokens=1))
    )
    assert error.body["error"]["type"] == "authentication_error"
    error = refusal(anthropic.NotFoundError, created(model="nope"))
    assert error.body["error"]["type"] == "not_found_error"
    for changes, field in (
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": "hi"}, "messages"),
        ({"extra_body": {"temperature": 2}}, "temperature"),
        ({"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, "thinking"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": "word " * 20000}]}, "messages"),
    ):
        for stream in (False, True):
            error = refusal(anthropic.BadRequestError, created(**changes, stream=stream))
            assert error.body["error"]["type"] == "invalid_request_error"
            assert field in error.body["error"]["message"], error


def disconnect(session: Session) -> None:
    for _ in range(3):
        events = session.client.messages.create(**session.asked(STORY, max_tokens=400), stream=True)
        next(iter(events))
        events.close()
    time.sleep(0.2)
    assert session.client.messages.create(**session.asked(max_tokens=2)).content


SCENARIOS = (message, stream, stream_helper, count, tools, forms, stops, errors, disconnect)

if __name__ == "__main__":
    own = Session(*sys.argv[1:])
    for scenario in SCENARIOS:
        scenario(own)
        print("ok", scenario.__name__)
