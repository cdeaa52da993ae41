"""Scenarios with ollama-python.

`python ollama_session.py URL KEY MODEL EMBEDDER`, in the client's own environment, runs all of
them; a failed assertion is a failed test.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import ollama

HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "Tell me a story"}]
GREEDY = {"temperature": 0, "num_predict": 48, "num_ctx": 512}


class Session:
    """A client, and the models that it asks."""

    def __init__(self, url: str, key: str, model: str, embedder: str) -> None:
        self.url, self.model, self.embedder = url, model, embedder
        self.client = ollama.Client(url, headers={"authorization": f"Bearer {key}"}, timeout=90)


def chat(session: Session) -> None:
    answer = session.client.chat(session.model, STORY, options=GREEDY)
    assert answer.message.role == "assistant"
    assert answer.message.content
    assert answer.done
    assert answer.done_reason in {"stop", "length"}
    for count in (answer.prompt_eval_count, answer.eval_count, answer.total_duration):
        assert count > 0
    parts = list(session.client.chat(session.model, STORY, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == answer.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == answer.eval_count


def generate(session: Session) -> None:
    asked = {"model": session.model, "prompt": "Tell me a story", "options": GREEDY}
    answer = session.client.generate(**asked)
    assert answer.response
    assert (
        answer.response
        == session.client.chat(session.model, STORY, options=GREEDY)["message"]["content"]
    )
    parts = list(session.client.generate(**asked, stream=True))
    assert "".join(part.response for part in parts) == answer.response
    raw = session.client.generate(**asked, raw=True)
    assert raw.prompt_eval_count < answer.prompt_eval_count


def logprobs(session: Session) -> None:
    answer = session.client.chat(
        session.model, HELLO, options=GREEDY | {"num_predict": 4}, logprobs=True, top_logprobs=2
    )
    assert len(answer.logprobs) == answer.eval_count == 4
    assert all(len(token.top_logprobs) == 2 for token in answer.logprobs)


def json_form(session: Session) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    for form in ("json", schema):
        text = session.client.chat(
            session.model, HELLO, format=form, options=GREEDY | {"num_predict": 200}
        ).message.content
        assert text.lstrip().startswith("{"), text


def get_weather(city: str) -> str:
    """Gets the weather of a city.

    Args:
        city: Its name.
    """
    return f"It rains in {city}."


def tools(session: Session) -> None:
    """The client makes a tool of a function; whether it is called is the model's to decide."""
    ask = [{"role": "user", "content": "What is the weather in Paris?"}]
    for stream in (False, True):
        answer = session.client.chat(
            session.model, ask, tools=[get_weather], options=GREEDY, stream=stream
        )
        parts = list(answer) if stream else [answer]
        calls = [call for part in parts for call in part.message.tool_calls or ()]
        for call in calls:
            assert call.function.name == "get_weather"
            assert isinstance(call.function.arguments, dict)
        assert calls or any(part.message.content for part in parts)
    called = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    turns = [
        *ask,
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")},
    ]
    answer = session.client.chat(session.model, turns, tools=[get_weather], options=GREEDY)
    assert answer.done


def vectors(session: Session) -> None:
    answer = session.client.embed(session.embedder, ["The sky is red.", "Cheese is milk."])
    assert len(answer.embeddings) == 2
    for vector in answer.embeddings:
        assert math.isclose(sum(x * x for x in vector), 1, rel_tol=1e-4)
    one = session.client.embed(session.embedder, "The sky is red.")
    assert all(
        math.isclose(a, b, abs_tol=1e-4)
        for a, b in zip(one.embeddings[0], answer.embeddings[0], strict=True)
    )
    old = session.client.embeddings(session.embedder, "The sky is red.")
    assert len(old.embedding) == len(one.embeddings[0])


def models(session: Session) -> None:
    listed = {model.model: model for model in session.client.list().models}
    assert {session.model, session.embedder} <= set(listed)
    assert listed[session.model].modified_at.year > 2000
    running = {model.model: model for model in session.client.ps().models}
    assert session.model in running
    assert running[session.model].context_length > 0
    shown = session.client.show(session.model)
    assert "completion" in shown.capabilities
    assert shown.template
    assert "embedding" in session.client.show(session.embedder).capabilities


def refusal(status: int, call: Callable[[], Any]) -> str:
    found: ollama.ResponseError | None = None
    try:
        call()
    except ollama.ResponseError as error:
        found = error
    assert found is not None
    assert found.status_code == status, found
    assert isinstance(found.error, str)
    return found.error


def errors(session: Session) -> None:
    client = session.client
    refusal(401, lambda: ollama.Client(session.url).chat(session.model, HELLO))
    refusal(404, lambda: client.chat("nope", HELLO))
    refusal(404, lambda: list(client.chat("nope", HELLO, stream=True)))
    refusal(404, lambda: client.show("nope"))
    said = refusal(400, lambda: client.chat(session.model, HELLO, think=True))
    assert "think" in said
    said = refusal(400, lambda: client.chat(session.model, HELLO, options={"temperature": 3}))
    assert "options.temperature" in said
    for call in (
        lambda: client.pull("x"),
        lambda: list(client.pull("x", stream=True)),
        lambda: client.push("x"),
        lambda: client.create("x", from_=session.model),
        lambda: client.copy(session.model, "x"),
        lambda: client.delete(session.model),
    ):
        assert "penstock models" in refusal(501, call)


def disconnect(session: Session) -> None:
    options = {"num_predict": 400}
    for _ in range(3):
        parts = session.client.chat(session.model, STORY, options=options, stream=True)
        next(iter(parts))
        parts.close()
    assert session.client.chat(session.model, HELLO, options={"num_predict": 2}).done


SCENARIOS = (*(chat, generate, logprobs, json_form, tools, vectors, models, errors, disconnect),)

if __name__ == "__main__":
    own = Session(*sys.argv[1:])
    for scenario in SCENARIOS:
        scenario(own)
        print("ok", scenario.__name__)
