"""Streams of responses: whatever is generated, events are numbered and items follow in order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import event_pb2, usage_pb2

from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.response_object import Draft
from gateway.dialects.openai.response_schema import ResponseCreate
from gateway.dialects.openai.response_stream import ResponseStream
from gateway.errors import Problem

USAGE = usage_pb2.Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7, cached_tokens=1)
LENGTH, STOP = event_pb2.FINISH_REASON_LENGTH, event_pb2.FINISH_REASON_STOP
FILTER, CANCELLED = event_pb2.FINISH_REASON_CONTENT_FILTER, event_pb2.FINISH_REASON_CANCELLED


def counting() -> Callable[[str], str]:
    numbers = itertools.count()
    return lambda prefix: f"{prefix}{next(numbers)}"


def opened(*, kept: bool = False, scored: bool = False) -> ResponseStream:
    body = ResponseCreate(model="m", input="Hi")
    draft = Draft(body, "resp_1")
    return ResponseStream(
        draft, kept=kept, scored=scored, make_id=counting(), clock=lambda: 1702345680.5
    )


def update(**fields: Any) -> step_service_pb2.StepUpdate:
    if "text" in fields:
        return step_service_pb2.StepUpdate(text=fields["text"])
    return step_service_pb2.StepUpdate(chat=event_pb2.ChatEvent(**fields))


def fed(stream: ResponseStream, one: step_service_pb2.StepUpdate) -> list[bytes]:
    """What the driver of streams does with an update."""
    if one.WhichOneof("update") == "text":
        frame = stream.text(one.text)
        if frame is not None:
            return [frame]
    return list(stream.feed(one))


def parsed(frames: list[bytes]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for frame in frames:
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 3
        first, second = frame.rstrip(b"\n").split(b"\n")
        event = json.loads(second.removeprefix(b"data: "))
        assert first == b"event: " + event["type"].encode()
        assert event["sequence_number"] == len(found)
        found.append(event)
    return found


Step = tuple[str, str]
TEXTS = st.text(max_size=8)
STEPS = st.lists(
    st.tuples(st.just("text"), TEXTS)
    | st.tuples(st.just("delta"), TEXTS)
    | st.tuples(st.just("scored"), TEXTS)
    | st.tuples(st.just("call"), st.text(min_size=1, max_size=8))
    | st.tuples(st.just("arguments"), TEXTS),
    max_size=24,
)


def updates(steps: list[Step], reason: int) -> list[step_service_pb2.StepUpdate]:
    """A stream of the service: started, what the steps say, finished, done."""
    started = event_pb2.Started(id="chatcmpl-a", model="m", fingerprint="fp_1")
    started.create_time.seconds = 1702345678
    found = [update(started=started)]
    calls = 0
    for kind, said in steps:
        if kind == "text":
            found.append(update(text=said))
        elif kind == "delta":
            found.append(update(delta=event_pb2.Delta(text=said)))
        elif kind == "scored":
            logprob = event_pb2.TokenLogprob(token=said, logprob=-0.5, bytes=said.encode())
            found.append(update(delta=event_pb2.Delta(text=said, logprobs=[logprob])))
        elif kind == "call":
            calls += 1
            opening = event_pb2.ToolDelta(call_index=calls - 1, id=f"call_{calls}", name=said)
            found.append(update(tool_delta=opening))
        elif calls:
            piece = event_pb2.ToolDelta(call_index=calls - 1, arguments_json=said)
            found.append(update(tool_delta=piece))
    found.append(update(finished=event_pb2.Finished(reason=reason)))  # type: ignore[arg-type]
    found.append(update(done=event_pb2.Done(usage=USAGE)))
    return found


def ordered(steps: list[Step]) -> list[Step]:
    """Arguments directly behind their call: so the service tells them."""
    kept: list[Step] = []
    for step in steps:
        if step[0] == "arguments" and (not kept or kept[-1][0] not in ("call", "arguments")):
            continue
        kept.append(step)
    return kept


def check_items(events: list[dict[str, Any]], last: dict[str, Any]) -> None:
    """Items begin and end one after another, and add up to the response's output."""
    done: list[Any] = []
    current: dict[str, Any] | None = None
    pieces: list[str] = []
    for event in events:
        kind = event["type"]
        if "output_index" in event:
            assert event["output_index"] == len(done)
        if kind == "response.output_item.added":
            assert current is None
            current, pieces = event["item"], []
            assert current["status"] == "in_progress"
        elif kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            assert current is not None
            assert event["item_id"] == current["id"]
            pieces.append(event["delta"])
        elif kind == "response.output_text.done":
            assert event["text"] == "".join(pieces)
        elif kind == "response.function_call_arguments.done":
            assert event["arguments"] == "".join(pieces)
        elif kind == "response.output_item.done":
            assert current is not None
            item = event["item"]
            assert item["id"] == current["id"]
            if item["type"] == "message":
                assert item["content"][0]["text"] == "".join(pieces)
            else:
                assert item["arguments"] == "".join(pieces)
            done.append(item)
            current = None
    assert current is None
    assert last["response"]["output"] == done
    assert done, "a response says something, if only nothing"


@given(
    steps=STEPS,
    reason=st.sampled_from([STOP, LENGTH, FILTER, CANCELLED]),
    scored=st.booleans(),
    kept=st.booleans(),
)
def test_every_stream_is_in_order(steps: list[Step], reason: int, scored: bool, kept: bool) -> None:
    stream = opened(kept=kept, scored=scored)
    frames: list[bytes] = []
    steps = ordered(steps)
    for one in updates(steps, reason):
        assert not stream.finished
        frames += fed(stream, one)
    assert stream.finished
    if kept:
        frames.append(stream.completed())
    events = parsed(frames)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    ending = "completed" if reason == STOP else "incomplete"
    assert last["type"] == f"response.{ending}"
    check_items(events, last)
    response = msgspec.convert(last["response"], answers.Response, strict=True)
    assert response.status == ending
    assert (response.completed_at is None) == (ending == "incomplete")
    said = "".join(text for kind, text in steps if kind in ("text", "delta", "scored"))
    told = [item for item in response.output if isinstance(item, answers.OutputMessage)]
    assert "".join(part.text for item in told for part in item.content) == said
    if scored:
        tokens = [token for item in told for part in item.content for token in part.logprobs]
        assert "".join(token.token for token in tokens) == "".join(
            text for kind, text in steps if kind == "scored"
        )
    names = [item.name for item in response.output if isinstance(item, answers.FunctionCallItem)]
    assert names == [name for kind, name in steps if kind == "call"]
    statuses = [item.status for item in response.output]
    assert set(statuses[:-1]) <= {"completed"}
    assert statuses[-1] in ("completed", ending)


@given(steps=STEPS, cut=st.integers(min_value=1, max_value=30))
def test_every_failure_is_the_last_event(steps: list[Step], cut: int) -> None:
    stream = opened()
    whole = updates(ordered(steps), STOP)[:-1]
    frames = [frame for one in whole[:cut] for frame in fed(stream, one)]
    frames.append(stream.fail(Problem("UNAVAILABLE", "It broke.", param="x")))
    assert stream.finished
    assert stream.response is None
    error = parsed(frames)[-1]
    assert error | {"sequence_number": 0} == {
        "type": "error",
        "sequence_number": 0,
        "code": "service_unavailable",
        "message": "It broke.",
        "param": "x",
        "error": {
            "message": "It broke.",
            "type": "server_error",
            "param": "x",
            "code": "service_unavailable",
        },
    }


def test_a_response_that_can_not_be_kept() -> None:
    stream = opened(kept=True)
    frames = [frame for one in updates([("text", "Hi")], STOP) for frame in fed(stream, one)]
    assert parsed(frames)[-1]["type"] == "response.output_item.done"
    frames.append(stream.failed(Problem("UNAVAILABLE", "There is no database.")))
    last = parsed(frames)[-1]
    assert last["type"] == "response.failed"
    response = last["response"]
    assert (response["status"], response["completed_at"]) == ("failed", None)
    assert response["error"] == {"code": "server_error", "message": "There is no database."}
    assert response["output"][0]["content"][0]["text"] == "Hi"


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x85", "\n\n", "\r", '"}\n\ndata: x'])
def test_texts_that_look_like_ends_of_lines(text: str) -> None:
    stream = opened()
    frames = [frame for one in updates([("text", text)], STOP) for frame in fed(stream, one)]
    for frame in frames:
        assert len(frame.decode().splitlines()) == 3
    deltas = [e for e in parsed(frames) if e["type"] == "response.output_text.delta"]
    assert [event["delta"] for event in deltas] == [text]
