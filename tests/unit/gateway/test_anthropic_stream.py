"""Streams and errors of Anthropic's dialect, whatever comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.context import RequestContext
from gateway.dialects.anthropic import schema
from gateway.dialects.anthropic.answers import message
from gateway.dialects.anthropic.envelope import AnthropicDialect
from gateway.dialects.anthropic.message_stream import MessageStream
from gateway.dialects.anthropic.translate import to_chat_request
from gateway.errors import KINDS, Problem
from gateway.rate_limits import Allowance

BODY = schema.MessagesRequest(
    model="m",
    max_tokens=5,
    messages=[schema.MessageParam(role="user", content="hi")],
    stop_sequences=["END"],
)
THINKING = (
    None,
    schema.Thinking(type="disabled"),
    schema.Thinking(type="adaptive"),
    schema.Thinking(type="enabled", budget_tokens=1024, display="summarized"),
    schema.Thinking(type="enabled", budget_tokens=1024, display="omitted"),
)
REASONS = (
    event_pb2.FINISH_REASON_STOP,
    event_pb2.FINISH_REASON_LENGTH,
    event_pb2.FINISH_REASON_TOOL_CALLS,
    event_pb2.FINISH_REASON_CONTENT_FILTER,
    event_pb2.FINISH_REASON_CANCELLED,
)
USAGE = usage_pb2.Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=3, total_tokens=12)
THOUGHT_USAGE = usage_pb2.Usage(prompt_tokens=9, completion_tokens=5, reasoning_tokens=2)

Events = list[dict[str, Any]]


def stream(body: schema.MessagesRequest = BODY) -> MessageStream:
    return MessageStream(body, "req_1", to_chat_request(BODY)[1])


def chat(**event: Any) -> step_service_pb2.StepUpdate:
    return step_service_pb2.StepUpdate(chat=event_pb2.ChatEvent(**event))


def parsed(frames: list[bytes]) -> Events:
    found: Events = []
    for event in b"".join(frames).decode().split("\n\n")[:-1]:
        kind, data = event.splitlines()  # no separator of other alphabets is in it
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def assembled(events: Events) -> dict[str, Any]:
    """What an SDK makes of a stream; it fails where one would."""
    answer: dict[str, Any] = events[0]["message"]
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    open_block = False
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not open_block
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"] | {"json": ""})
                open_block = True
            case "content_block_delta":
                assert open_block
                assert event["index"] == len(blocks) - 1
                delta = event["delta"]
                match delta["type"]:
                    case "text_delta":
                        blocks[-1]["text"] += delta["text"]
                    case "thinking_delta":
                        assert not blocks[-1]["signature"]
                        blocks[-1]["thinking"] += delta["thinking"]
                    case "signature_delta":
                        assert not blocks[-1]["signature"]
                        blocks[-1]["signature"] = delta["signature"]
                    case _:
                        blocks[-1]["json"] += delta["partial_json"]
            case "content_block_stop":
                assert open_block
                assert event["index"] == len(blocks) - 1
                open_block = False
            case kind:
                assert kind == "ping"
    assert not open_block
    for block in blocks:
        written = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(written or "{}")
    return answer | {"content": blocks, **events[-2]["delta"], "usage": events[-2]["usage"]}


PIECES = st.lists(st.text(min_size=1, max_size=5) | st.sampled_from(["\u2028", "\x85"]), max_size=4)
CALLS = st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=3)


@given(PIECES, CALLS, st.sampled_from(REASONS), st.sampled_from(["", "END", "<eot>"]), st.data())
def test_a_stream_says_what_the_whole_says(
    pieces: list[str],
    calls: list[dict[str, int]],
    reason: event_pb2.FinishReason,
    stop: str,
    data: st.DataObject,
) -> None:
    renderer = stream()
    frames = [*renderer.feed(chat(started=event_pb2.Started(id="chatcmpl-abc", model="real")))]
    for piece in pieces:
        if data.draw(st.booleans()):
            frames.append(renderer.text(piece))
        else:
            frames += renderer.feed(chat(delta=event_pb2.Delta(text=piece)))
    made: list[message_pb2.ToolCall] = []
    for number, arguments in enumerate(calls):
        text = json.dumps(arguments)
        made.append(message_pb2.ToolCall(id=f"call_{number}", name="f", arguments_json=text))
        start = event_pb2.ToolDelta(call_index=number, id=f"call_{number}", name="f")
        frames += renderer.feed(chat(tool_delta=start))
        for piece in (text[:2], text[2:]):
            delta = event_pb2.ToolDelta(call_index=number, arguments_json=piece)
            frames += renderer.feed(chat(tool_delta=delta))
    assert not renderer.finished
    frames += renderer.feed(chat(finished=event_pb2.Finished(reason=reason, stop_sequence=stop)))
    frames += renderer.feed(chat(done=event_pb2.Done(usage=USAGE)))
    assert renderer.finished

    response = inference_pb2.ChatResponse(id="chatcmpl-abc", model="real", usage=USAGE)
    choice = response.choices.add(finish_reason=reason, stop_sequence=stop)
    choice.message.tool_calls.extend(made)
    choice.message.parts.add(text="".join(pieces))
    whole = json.loads(msgspec.json.encode(message(response, BODY)))
    assert assembled(parsed(frames)) == whole


@given(PIECES, PIECES, st.sampled_from(THINKING))
def test_thoughts_are_shown_to_who_asked(
    thoughts: list[str], pieces: list[str], thinking: schema.Thinking | None
) -> None:
    body = msgspec.structs.replace(BODY, thinking=thinking)
    renderer = stream(body)
    frames = [*renderer.feed(chat(started=event_pb2.Started(id="chatcmpl-abc")))]
    for piece in thoughts:
        frames += renderer.feed(chat(reasoning_delta=event_pb2.ReasoningDelta(text=piece)))
    frames += [renderer.text(piece) for piece in pieces]
    frames += renderer.feed(chat(finished=event_pb2.Finished()))
    frames += renderer.feed(chat(done=event_pb2.Done(usage=THOUGHT_USAGE)))

    response = inference_pb2.ChatResponse(id="chatcmpl-abc", usage=THOUGHT_USAGE)
    said = response.choices.add().message
    said.reasoning = "".join(thoughts)
    said.parts.add(text="".join(pieces))
    whole = json.loads(msgspec.json.encode(message(response, body)))
    assert assembled(parsed(frames)) == whole

    shown = thinking is not None and thinking.type != "disabled"
    told = [block for block in whole["content"] if block["type"] == "thinking"]
    assert len(told) == (1 if shown and thoughts else 0)
    for block in told:
        assert thinking is not None
        assert block["thinking"] == ("" if thinking.omitted else "".join(thoughts))
        assert block["signature"]
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


def test_a_thought_is_streamed_as_anthropic_does() -> None:
    renderer = stream(msgspec.structs.replace(BODY, thinking=THINKING[3]))
    frames: list[bytes] = []
    for piece in ("h", "m"):
        frames += renderer.feed(chat(reasoning_delta=event_pb2.ReasoningDelta(text=piece)))
    frames.append(renderer.text("a"))
    block = {"type": "thinking", "thinking": "", "signature": ""}
    signed = {"type": "signature_delta", "signature": "penstock"}
    assert parsed(frames)[:7] == [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "h"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "m"},
        },
        {"type": "content_block_delta", "index": 0, "delta": signed},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    ]


def test_a_failure_is_an_event_and_the_last() -> None:
    renderer = stream()
    frames = [
        *renderer.feed(chat(started=event_pb2.Started(id="chatcmpl-abc"))),
        renderer.text("a"),
    ]
    frames.append(renderer.fail(Problem("QUEUE_FULL", "full", "sampling.top_k")))
    assert renderer.finished
    assert parsed(frames)[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "full The field at fault is 'top_k'."},
        "request_id": "req_1",
    }


DOCUMENTED = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@pytest.mark.parametrize("reason", KINDS)
def test_every_reason_has_a_status_and_a_type(reason: str) -> None:
    context = RequestContext("req_1", 0.0, {})
    refusal = AnthropicDialect().refusal(Problem(reason, "why"), context)
    expected = 529 if reason == "QUEUE_FULL" else KINDS[reason].status
    assert refusal.status == expected
    body = json.loads(refusal.body)
    assert body["error"]["message"] == "why"
    assert body["request_id"] == "req_1"
    if expected in DOCUMENTED:
        assert body["error"]["type"] == DOCUMENTED[expected]
    else:
        assert (body["error"]["type"] == "api_error") == (expected >= 500)
    names = [name for name, _ in refusal.headers]
    assert (b"retry-after" in names) == (KINDS[reason].status in (429, 503))


def test_what_is_left_is_told_of_requests_and_of_tokens() -> None:
    dialect = AnthropicDialect()
    context = RequestContext("req_1", 0.0, {})
    assert dialect.headers(context) == [(b"request-id", b"req_1")]
    context.tokens = Allowance(100, 40, 30.0)
    told = dict(dialect.headers(context) + dialect.allowance_headers(Allowance(9, 3, 30.0)))
    for of, limit, remaining in ((b"tokens", b"100", b"40"), (b"requests", b"9", b"3")):
        family = b"anthropic-ratelimit-%s-" % of
        assert (told[family + b"limit"], told[family + b"remaining"]) == (limit, remaining)
        reset = datetime.fromisoformat(told[family + b"reset"].decode())
        assert timedelta() < reset - datetime.now(UTC) < timedelta(seconds=31)


def test_its_paths() -> None:
    owns = AnthropicDialect().owns
    assert owns("/v1/messages")
    assert owns("/v1/messages/count_tokens")
    assert owns("/v1/messages/batches")
    assert not owns("/v1/messagesx")
    assert not owns("/v1/models")
