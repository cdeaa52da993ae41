"""Scenarios with openai-python 1.x and 3.x, each run by the client's own environment.

`python openai_session.py SCENARIO URL KEY`; a failed assertion is a failed test.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import openai

MODEL = "penstock-starter"
HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "Tell me a story"}]


def models(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids, ids
    assert "org/starter" in ids, ids
    model = client.models.retrieve("org/starter")
    assert model.id == "org/starter"
    assert model.object == "model"
    assert isinstance(model.created, int)


def chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    assert len(answer.id) == len("chatcmpl-") + 24
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=STORY,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not chunks[0].choices[0].delta.content
    assert all(c.choices[0].delta.role is None for c in chunks[1:] if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1
    assert len({c.created for c in chunks}) == 1
    bare = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stream=True)
    )
    assert all(c.choices for c in bare)
    assert all(c.usage is None for c in bare)


def stream_helper(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    owner = chat if hasattr(chat, "stream") else client.beta.chat.completions
    with owner.stream(model=MODEL, messages=HELLO, temperature=0) as events:
        for _ in events:
            pass
        final = events.get_final_completion()
    assert final.choices[0].message.content


def raw_stream(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=4
    )
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.parse().choices[0].finish_reason in {"length", "stop"}


def completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["Once upon", "The capital"], max_tokens=5, temperature=0, n=1
    )
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 10
    parts = list(
        client.completions.create(
            model=MODEL, prompt="Once upon", max_tokens=5, temperature=0, stream=True
        )
    )
    assert "".join(p.choices[0].text for p in parts) == answer.choices[0].text
    echo = client.completions.create(
        model=MODEL, prompt="Once upon", max_tokens=0, echo=True, logprobs=2
    )
    assert echo.choices[0].text == "Once upon"
    scores = echo.choices[0].logprobs
    assert scores is not None
    assert scores.token_logprobs is not None
    assert scores.token_logprobs[0] is None
    assert all(value <= 0 for value in scores.token_logprobs[1:])
    assert "".join(scores.tokens or []) == "Once upon"


def refusal(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def errors(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    stranger = client.with_options(api_key="wrong")
    error = refusal(openai.AuthenticationError, stranger.models.list)
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    error = refusal(openai.NotFoundError, lambda: chat.create(model="nope", messages=HELLO))
    assert error.code == "model_not_found"
    for field, value, code in (
        ("temperature", 3, "decimal_above_max_value"),
        ("n", 0, "integer_below_min_value"),
        ("messages", "hi", "invalid_type"),
        ("top_logprobs", 3, "invalid_value"),
    ):
        arguments: Any = {"model": MODEL, "messages": HELLO, field: value}
        error = refusal(openai.BadRequestError, lambda given=arguments: chat.create(**given))
        assert (error.param, error.code) == (field, code)
        assert error.type == "invalid_request_error"
    long = [{"role": "user", "content": "word " * 20000}]
    error = refusal(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=long))
    assert error.code == "context_length_exceeded"


def logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, logprobs=True, top_logprobs=3, max_tokens=5
    )
    content = answer.choices[0].logprobs.content
    assert "".join(bytes(t.bytes).decode() for t in content) == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-4
        assert token.logprob <= 0


def many(client: openai.OpenAI) -> None:
    arguments = {"model": MODEL, "messages": STORY, "n": 3, "seed": 7, "max_tokens": 12}
    first = client.chat.completions.create(**arguments)
    second = client.chat.completions.create(**arguments)
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert [c.message.content for c in first.choices] == [c.message.content for c in second.choices]
    assert first.system_fingerprint == second.system_fingerprint
    texts: dict[int, str] = {}
    for chunk in client.chat.completions.create(**arguments, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert [texts[i] for i in range(3)] == [c.message.content for c in first.choices]


def stop(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0)
    text = whole.choices[0].message.content
    word = text.split()[3]
    cut = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0, stop=word)
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"
    limited = client.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_completion_tokens=3
    )
    assert limited.choices[0].finish_reason == "length"
    assert limited.usage.completion_tokens == 3


def tools(client: openai.OpenAI) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Gets the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    ask = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert call.id.startswith("call_")
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason in {"tool_calls", "stop"}


def disconnect(client: openai.OpenAI) -> None:
    for _ in range(3):
        events = client.chat.completions.create(
            model=MODEL, messages=STORY, max_tokens=400, stream=True, logit_bias={}
        )
        next(iter(events))
        events.close()
    time.sleep(0.2)
    assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).choices


SCENARIOS = {
    f.__name__: f
    for f in (
        models,
        chat,
        stream,
        stream_helper,
        raw_stream,
        completions,
        errors,
        logprobs,
        many,
        stop,
        tools,
        disconnect,
    )
}

if __name__ == "__main__":
    name, url, key = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
        )
        print("ok", scenario)
