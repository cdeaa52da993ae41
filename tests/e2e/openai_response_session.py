"""Responses with openai-python 1.x and 3.x, each run by the client's own environment.

`python openai_response_session.py SCENARIO URL KEY`; a failed assertion is a failed test.
"""

import sys
from collections.abc import Callable
from typing import Any, Literal

import openai
import pydantic

MODEL = "penstock-starter"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Gets the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
FORCED: Any = {"type": "function", "name": "get_weather"}


class Colour(pydantic.BaseModel):
    name: Literal["red", "green"]
    share: int = pydantic.Field(ge=0, le=100)


class Palette(pydantic.BaseModel):
    colours: list[Colour] = pydantic.Field(min_length=1, max_length=3)
    sure: bool


def refusal(kind: type[openai.APIStatusError], call: Callable[[], Any]) -> Any:
    """Makes a call that has to fail so; returns the error."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"it was not refused as {kind}")


def create(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model=MODEL, input="Hello!", instructions="Be brief.", temperature=0, max_output_tokens=64
    )
    assert response.id.startswith("resp_")
    assert response.object == "response"
    assert response.status == "completed"
    assert response.output_text
    assert response.output_text == response.output[0].content[0].text
    assert response.instructions == "Be brief."
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response._request_id
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello!"}]},
    ]
    same = client.responses.create(model=MODEL, input=items, temperature=0, max_output_tokens=64)
    assert same.output_text == response.output_text


def stream(client: openai.OpenAI) -> None:
    ask: Any = {"model": MODEL, "input": "Tell me a story", "temperature": 0}
    whole = client.responses.create(**ask)
    events = list(client.responses.create(**ask, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [event.type for event in events[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text
    cut = list(client.responses.create(**ask, stream=True, max_output_tokens=16))[-1]
    assert cut.type == "response.incomplete"
    assert cut.response.incomplete_details.reason == "max_output_tokens"


def helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello!", temperature=0) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == final.output[0].content[0].text != ""


def parse(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        model=MODEL,
        input="Which colours do you like?",
        text_format=Palette,
        temperature=0,
        max_output_tokens=300,
    )
    assert isinstance(response.output_parsed, Palette)
    assert response.text.format.type == "json_schema"
    assert response.text.format.name == "Palette"
    with client.responses.stream(
        model=MODEL,
        input="Which colours?",
        text_format=Palette,
        temperature=0,
        max_output_tokens=300,
    ) as events:
        final = events.get_final_response()
    assert isinstance(final.output_parsed, Palette)


def tools(client: openai.OpenAI) -> None:
    """A call, its result by hand, and the same by `previous_response_id`."""
    ask: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    settings: Any = {"model": MODEL, "tools": [WEATHER], "temperature": 0}
    response = client.responses.create(**settings, input=ask, tool_choice=FORCED, store=True)
    (call,) = response.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert call.call_id.startswith("call_")
    assert call.id.startswith("fc_")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    by_hand = client.responses.create(**settings, input=[*ask, *response.output, result])
    linked = client.responses.create(**settings, input=[result], previous_response_id=response.id)
    assert by_hand.output_text == linked.output_text
    assert by_hand.usage.input_tokens == linked.usage.input_tokens
    events = list(client.responses.create(**settings, input=ask, tool_choice=FORCED, stream=True))
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert "".join(pieces) == done.arguments == call.arguments
    with client.responses.stream(**settings, input=ask, tool_choice=FORCED) as helped:
        final = helped.get_final_response()
    assert final.output[0].arguments == call.arguments
    client.responses.delete(response.id)


def stored(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model=MODEL, input="My name is Bob.", store=True, metadata={"a": "b"}, temperature=0
    )
    with client.responses.stream(
        model=MODEL, input="Hello!", previous_response_id=first.id, store=True
    ) as events:
        second = events.get_final_response()
    assert second.previous_response_id == first.id
    found = client.responses.retrieve(first.id)
    assert found.to_dict() == first.to_dict()
    assert found.metadata == {"a": "b"}
    items = list(client.responses.input_items.list(second.id, limit=2, order="asc"))
    assert [item.type for item in items] == ["message"] * 3
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[1].to_dict() == first.output[0].to_dict()
    backwards = [item.id for item in client.responses.input_items.list(second.id)]
    assert backwards == [item.id for item in reversed(items)]
    error = refusal(openai.BadRequestError, lambda: client.responses.cancel(first.id))
    assert "synchronous" in error.message
    client.responses.delete(first.id)
    error = refusal(openai.NotFoundError, lambda: client.responses.retrieve(first.id))
    assert first.id in error.message


def search(client: openai.OpenAI) -> None:
    mars = client.files.create(file=("mars.md", b"The sky on Mars is red."), purpose="assistants")
    store = client.vector_stores.create(name="searched", file_ids=[mars.id])
    tool: Any = {"type": "file_search", "vector_store_ids": [store.id], "max_num_results": 2}
    ask: Any = {
        "model": MODEL,
        "input": "What color is the sky on Mars?",
        "tools": [tool],
        "include": ["file_search_call.results"],
        "temperature": 0,
    }
    response = client.responses.create(**ask)
    found, message = response.output
    assert (found.type, found.status) == ("file_search_call", "completed")
    assert found.queries == ["What color is the sky on Mars?"]
    assert (found.results[0].file_id, found.results[0].filename) == (mars.id, "mars.md")
    assert "red" in found.results[0].text
    assert message.type == "message"
    with client.responses.stream(**ask) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert "response.file_search_call.completed" in kinds
    assert final.output_text == response.output_text
    without = client.responses.create(**{**ask, "tool_choice": "none"})
    assert without.usage.input_tokens < response.usage.input_tokens
    client.vector_stores.delete(store.id)
    client.files.delete(mars.id)


def errors(client: openai.OpenAI) -> None:
    call: Any = client.responses.create
    for fields, param in (
        ({"input": "Hi", "max_output_tokens": 2}, "max_output_tokens"),
        ({"input": "Hi", "previous_response_id": "resp_x"}, "previous_response_id"),
        ({"input": "Hi", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "Hi", "background": True}, "background"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": "Hi " * 9000}, "input"),
    ):
        for streams in (False, True):
            body = {"model": MODEL, "stream": streams, **fields}
            error = refusal(openai.BadRequestError, lambda body=body: call(**body))
            assert error.param == param, error


def disconnect(client: openai.OpenAI) -> None:
    for _ in range(3):
        events = client.responses.create(
            model=MODEL, input="Tell me a story", max_output_tokens=400, stream=True
        )
        next(iter(events))
        events.close()
    assert client.responses.create(model=MODEL, input="Hello!", max_output_tokens=16).output


SCENARIOS = {
    f.__name__: f
    for f in (create, stream, helper, parse, tools, stored, search, errors, disconnect)
}

if __name__ == "__main__":
    name, url, key = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)
        )
        print("ok", scenario)
