"""Thoughts in OpenAI's dialect: streamed and whole, however they are cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.openai import schema
from gateway.dialects.openai.answers import chat_completion
from gateway.dialects.openai.chat_stream import ChatStream
from gateway.dialects.openai.response_answers import response_object
from gateway.dialects.openai.response_object import Draft
from gateway.dialects.openai.response_schema import ResponseCreate
from gateway.dialects.openai.response_stream import ResponseStream
from gateway.validation import decode

CHAT = msgspec.json.Decoder(schema.ChatCompletionRequest)
LENGTH, STOP = event_pb2.FINISH_REASON_LENGTH, event_pb2.FINISH_REASON_STOP
USAGE = usage_pb2.Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7, reasoning_tokens=2)
Update = step_service_pb2.StepUpdate
PIECES = st.lists(st.text(max_size=6), max_size=8)
"""A text, cut anyhow."""


def update(**event: Any) -> Update:
    return Update(chat=event_pb2.ChatEvent(**event))


def updates(
    thoughts: Sequence[str], texts: Sequence[str], calls: int = 0, reason: Any = STOP
) -> list[Update]:
    """What the service streams."""
    started = event_pb2.Started(id="chatcmpl-a", model="m", fingerprint="fp_1")
    started.create_time.seconds = 1702345678
    found = [update(started=started)]
    found += [update(reasoning_delta=event_pb2.ReasoningDelta(text=text)) for text in thoughts]
    found += [Update(text=text) for text in texts]
    for number in range(calls):
        call = event_pb2.ToolDelta(call_index=number, id=f"call_{number}", name="f")
        found.append(update(tool_delta=call))
        rest = event_pb2.ToolDelta(call_index=number, arguments_json="{}")
        found.append(update(tool_delta=rest))
    found.append(update(finished=event_pb2.Finished(reason=reason)))
    found.append(update(done=event_pb2.Done(usage=USAGE)))
    return found


def whole(
    thought: str, text: str, calls: int = 0, reason: Any = STOP
) -> inference_pb2.ChatResponse:
    """The same as a whole answer of the service."""
    answer = inference_pb2.ChatResponse(id="chatcmpl-a", model="m", fingerprint="fp_1", usage=USAGE)
    answer.create_time.seconds = 1702345678
    message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, reasoning=thought)
    if text:
        message.parts.add(text=text)
    for number in range(calls):
        message.tool_calls.add(id=f"call_{number}", name="f", arguments_json="{}")
    answer.choices.add(message=message, finish_reason=reason)
    return answer


def driven(stream: ChatStream | ResponseStream, given: Sequence[Update]) -> bytes:
    """What the driver of streams does."""
    frames: list[bytes] = []
    for one in given:
        frame = stream.text(one.text) if one.WhichOneof("update") == "text" else None
        frames += stream.feed(one) if frame is None else [frame]
    return b"".join(frames)


def chat_frames(given: Sequence[Update]) -> list[dict[str, Any]]:
    """The choices of a streamed chat's frames."""
    *frames, last, rest = driven(ChatStream("m"), given).split(b"\n\n")
    assert (last, rest) == (b"data: [DONE]", b"")
    return [json.loads(frame.removeprefix(b"data: "))["choices"][0] for frame in frames]


def test_the_frame_of_a_thought() -> None:
    given = updates(["hm\u2028"], ["yes"])
    _, thought, said, _, done = driven(ChatStream("m"), given).split(b"\n\n")[:5]
    assert thought.endswith(
        b'"choices":[{"index":0,"delta":{"reasoning_content":"hm\\u2028"},'
        b'"logprobs":null,"finish_reason":null}]}'
    )
    assert b'"delta":{"content":"yes"}' in said
    assert done == b"data: [DONE]"


def test_the_thought_of_another_choice() -> None:
    stream = ChatStream("m", choices=2, scored=True, include_usage=True)
    stream.feed(updates([], [])[0])
    delta = event_pb2.ReasoningDelta(index=1, text="hm")
    (frame,) = stream.feed(update(reasoning_delta=delta))
    assert json.loads(frame.removeprefix(b"data: "))["choices"] == [
        {
            "index": 1,
            "delta": {"reasoning_content": "hm"},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    empty = event_pb2.ReasoningDelta(index=1)
    assert list(stream.feed(update(reasoning_delta=empty))) == []


@given(thoughts=PIECES, texts=PIECES)
def test_any_cut_of_a_chat_says_the_same(thoughts: list[str], texts: list[str]) -> None:
    deltas = [frame["delta"] for frame in chat_frames(updates(thoughts, texts))]
    assert all(len(delta) <= 1 for delta in deltas[1:])
    told = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    assert "".join(told) == "".join(thoughts)
    assert all(told), "nothing is told of nothing"
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(texts)


@pytest.mark.parametrize("thought", ["", "hm"])
def test_a_whole_chat(thought: str) -> None:
    body = decode(CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    told = json.loads(msgspec.json.encode(chat_completion(whole(thought, "yes"), body)))
    message = told["choices"][0]["message"]
    assert message.pop("reasoning_content", "") == thought
    plain: dict[str, Any] = {
        "role": "assistant",
        "content": "yes",
        "refusal": None,
        "annotations": [],
    }
    assert message == plain
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2


def response_stream(given: Sequence[Update]) -> list[dict[str, Any]]:
    numbers = itertools.count()
    stream = ResponseStream(
        Draft(ResponseCreate(model="m", input="Hi"), "resp_1"),
        make_id=lambda prefix: f"{prefix}{next(numbers)}",
        clock=lambda: 1702345680.5,
    )
    *frames, rest = driven(stream, given).split(b"\n\n")
    assert rest == b""
    events = [json.loads(frame.split(b"\ndata: ")[1]) for frame in frames]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_the_events_of_a_thought() -> None:
    events = response_stream(updates(["h", "m"], ["yes"]))
    part = {"type": "reasoning_text", "text": "hm"}
    item: dict[str, Any] = {"type": "reasoning", "id": "rs_0", "summary": []}
    place = {"output_index": 0, "item_id": "rs_0", "content_index": 0}
    done = {**item, "content": [part], "status": "completed"}
    told = [
        {key: value for key, value in event.items() if key != "sequence_number"} for event in events
    ]
    assert told[2:9] == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.reasoning_text.delta", **place, "delta": "h"},
        {"type": "response.reasoning_text.delta", **place, "delta": "m"},
        {"type": "response.reasoning_text.done", **place, "text": "hm"},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
    ]
    assert [event["type"] for event in told[9:]] == [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert {event["output_index"] for event in told[9:-1]} == {1}
    assert told[-1]["response"]["output"][0] == done
    assert told[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


@given(
    thoughts=PIECES,
    texts=PIECES,
    calls=st.integers(0, 2),
    reason=st.sampled_from([STOP, LENGTH]),
)
def test_any_cut_of_a_response_says_what_the_whole_one_does(
    thoughts: list[str], texts: list[str], calls: int, reason: int
) -> None:
    events = response_stream(updates(thoughts, texts, calls, reason))
    numbers = itertools.count()
    answer = whole("".join(thoughts), "".join(texts), calls, reason)
    expected = response_object(
        answer,
        Draft(ResponseCreate(model="m", input="Hi"), "resp_1"),
        make_id=lambda prefix: f"{prefix}{next(numbers)}",
        clock=lambda: 1702345680.5,
    )
    assert events[-1]["response"] == json.loads(msgspec.json.encode(expected))
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    assert done, "a response says something, if only nothing"
    pieces = [e["delta"] for e in events if e["type"] == "response.reasoning_text.delta"]
    assert "".join(pieces) == "".join(thoughts)


@pytest.mark.parametrize(
    ("reason", "statuses"),
    [
        (LENGTH, [("reasoning", "incomplete")]),
        (STOP, [("reasoning", "completed"), ("message", "completed")]),
    ],
)
def test_nothing_behind_a_thought(reason: int, statuses: list[tuple[str, str]]) -> None:
    output = response_stream(updates(["hm"], [], reason=reason))[-1]["response"]["output"]
    assert [(item["type"], item["status"]) for item in output] == statuses
