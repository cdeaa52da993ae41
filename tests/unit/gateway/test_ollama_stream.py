"""Streams, errors and models of Ollama's dialect, whatever comes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2

from gateway.context import RequestContext
from gateway.dialects.ollama import answers, models, schema, translate
from gateway.dialects.ollama.envelope import OllamaDialect
from gateway.dialects.ollama.line_stream import LineStream
from gateway.errors import KINDS, Problem

# A name may hold anything that JSON escapes, and even what an empty text looks like.
NAME = 'odd""\\"name"'
CHAT = schema.OllamaChatRequest(model=NAME, messages=[])
GENERATE = schema.OllamaGenerateRequest(model=NAME)
USAGE = usage_pb2.Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12)
TIMINGS = event_pb2.Timings()
TIMINGS.queue.FromMilliseconds(1)
TIMINGS.prefill.FromMilliseconds(20)
TIMINGS.decode.FromMilliseconds(300)


def chat(**event: Any) -> step_service_pb2.StepUpdate:
    return step_service_pb2.StepUpdate(chat=event_pb2.ChatEvent(**event))


def parsed(lines: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(lines).decode().splitlines()]


PIECES = st.lists(st.text(min_size=1, max_size=5) | st.sampled_from(["\u2028", "\x85"]), max_size=4)
CALLS = st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=3)
REASONS = st.sampled_from(
    [
        event_pb2.FINISH_REASON_STOP,
        event_pb2.FINISH_REASON_LENGTH,
        event_pb2.FINISH_REASON_TOOL_CALLS,
        event_pb2.FINISH_REASON_CANCELLED,
    ]
)


@given(PIECES, CALLS, REASONS, st.data())
def test_a_stream_says_what_the_whole_says(
    pieces: list[str], calls: list[dict[str, int]], reason: Any, data: st.DataObject
) -> None:
    renderer = LineStream(CHAT, translate.chat_spelling)
    started = event_pb2.Started(id="chatcmpl-abc", model="real")
    lines = [*renderer.feed(chat(started=started))]
    for piece in pieces:
        if data.draw(st.booleans()):
            lines.append(renderer.text(piece))
        else:
            lines += renderer.feed(chat(delta=event_pb2.Delta(text=piece)))
    made: list[message_pb2.ToolCall] = []
    for number, arguments in enumerate(calls):
        text = json.dumps(arguments)
        made.append(message_pb2.ToolCall(id=f"call_{number}", name="f", arguments_json=text))
        start = event_pb2.ToolDelta(call_index=number, id=f"call_{number}", name="f")
        lines += renderer.feed(chat(tool_delta=start))
        for piece in (text[:2], text[2:]):
            delta = event_pb2.ToolDelta(call_index=number, arguments_json=piece)
            lines += renderer.feed(chat(tool_delta=delta))
    lines += renderer.feed(chat(finished=event_pb2.Finished(reason=reason)))
    assert not renderer.finished
    lines += renderer.feed(chat(done=event_pb2.Done(usage=USAGE, timings=TIMINGS)))
    assert renderer.finished

    response = inference_pb2.ChatResponse(id="chatcmpl-abc", usage=USAGE, timings=TIMINGS)
    choice = response.choices.add(finish_reason=reason)
    choice.message.tool_calls.extend(made)
    choice.message.parts.add(text="".join(pieces))
    whole = json.loads(msgspec.json.encode(answers.chat(response, CHAT)))

    *parts, last = parsed(lines)
    assert all(set(part) == {"model", "created_at", "message", "done"} for part in parts)
    assert [part["done"] for part in parts] == [False] * len(parts)
    told = [call for part in parts for call in part["message"].get("tool_calls", ())]
    message = {"role": "assistant", "content": "".join(p["message"]["content"] for p in parts)}
    if told:
        message["tool_calls"] = told
    assert last | {"message": message} == whole


@given(PIECES, PIECES, st.sampled_from([None, True, False, "low"]), st.booleans())
def test_thoughts_have_a_place_of_their_own(
    thoughts: list[str], pieces: list[str], think: Any, chats: bool
) -> None:
    body = msgspec.structs.replace(CHAT if chats else GENERATE, think=think)
    renderer = LineStream(body, translate.chat_spelling)
    lines = [*renderer.feed(chat(started=event_pb2.Started(id="chatcmpl-abc")))]
    for piece in thoughts:
        lines += renderer.feed(chat(reasoning_delta=event_pb2.ReasoningDelta(text=piece)))
    lines += [renderer.text(piece) for piece in pieces]
    lines += renderer.feed(chat(finished=event_pb2.Finished()))
    lines += renderer.feed(chat(done=event_pb2.Done(usage=USAGE, timings=TIMINGS)))

    response = inference_pb2.ChatResponse(usage=USAGE, timings=TIMINGS)
    choice = response.choices.add()
    choice.message.reasoning = "".join(thoughts)
    choice.message.parts.add(text="".join(pieces))
    rendered = (
        answers.chat(response, body)
        if isinstance(body, schema.OllamaChatRequest)
        else answers.generated(response, body)
    )
    whole = json.loads(msgspec.json.encode(rendered))

    def said(line: dict[str, Any]) -> tuple[str, str | None]:
        place = line["message"] if chats else line
        return place["content" if chats else "response"], place.get("thinking")

    told = [said(line) for line in parsed(lines)]
    shown = [] if think is False else thoughts
    assert told == [*(("", text) for text in shown), *((text, None) for text in pieces), ("", None)]
    assert said(whole) == ("".join(pieces), "".join(shown) or None)


@given(PIECES)
def test_texts_of_a_completion(pieces: list[str]) -> None:
    renderer = LineStream(GENERATE, translate.generate_spelling)

    def complete(**event: Any) -> step_service_pb2.StepUpdate:
        return step_service_pb2.StepUpdate(complete=event_pb2.CompleteEvent(**event))

    lines = [*renderer.feed(complete(started=event_pb2.Started()))]
    lines += [renderer.text(piece) for piece in pieces]
    lines += renderer.feed(complete(finished=event_pb2.Finished()))
    lines += renderer.feed(complete(done=event_pb2.Done(usage=USAGE, timings=TIMINGS)))
    found = parsed(lines)
    assert [line["response"] for line in found] == [*pieces, ""]
    assert {line["model"] for line in found} == {NAME}
    assert found[-1]["total_duration"] == 321_000_000


def test_a_failure_is_a_line_and_the_last() -> None:
    renderer = LineStream(CHAT, translate.chat_spelling)
    line = renderer.fail(Problem("INTERNAL", "broken", "sampling.top_k"))
    assert renderer.finished
    assert line == b'{"error":"broken The field at fault is \'options.top_k\'."}\n'


@pytest.mark.parametrize("reason", KINDS)
def test_every_reason_has_a_status(reason: str) -> None:
    problem = Problem(reason, "why")
    refusal = OllamaDialect().refusal(problem, RequestContext("req_1", 0.0, {}))
    assert refusal.status == KINDS[reason].status
    assert json.loads(refusal.body) == {"error": "why"}


def test_its_paths() -> None:
    owns = OllamaDialect().owns
    for path in ("/api/chat", "/api/none", "/api", "/chat", "/generate", "/embed", "/tags"):
        assert owns(path), path
    for path in ("/apix", "/chat/completions", "/embeddings", "/v1/chat", "/ps"):
        assert not owns(path), path


@pytest.mark.parametrize(
    ("count", "size"),
    [(0, ""), (999, "999"), (22_713_216, "22.71M"), (8_030_000_000, "8.0B"), (1_500, "1.50K")],
)
def test_sizes(count: int, size: str) -> None:
    model = model_pb2.Model(name="models/m", parameter_count=count)
    assert models.listed(model).details.parameter_size == size


def test_a_digest_changes_with_the_weights_only() -> None:
    def digest(uid: str, revision: str, **changes: Any) -> str:
        model = model_pb2.Model(name="models/m", uid=uid, **changes)
        model.revision.name = f"models/m/revisions/{revision}"
        return models.listed(model).digest

    first = digest("u", "1")
    assert digest("u", "1", display_name="other") == first
    assert len({first, digest("u", "2"), digest("v", "1")}) == 3


def test_settings_are_shown_as_a_modelfile_spells_them() -> None:
    config = model_pb2.ModelConfig(default_temperature=0.5, default_max_tokens=7, stop=["END"])
    model = model_pb2.Model(
        name="models/m", kind=model_pb2.MODEL_KIND_CHAT, config=config, base_model="b"
    )
    model.capabilities.infill = model.capabilities.image_input = True
    model.capabilities.reasoning = True
    shown = models.shown(model, None)
    settings = [line.split() for line in shown.parameters.splitlines()]
    assert settings == [["temperature", "0.5"], ["num_predict", "7"], ["stop", '"END"']]
    assert shown.capabilities == ["completion", "insert", "vision", "thinking"]
    assert shown.details.parent_model == "b"
