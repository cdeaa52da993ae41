from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.inference.v1 import event_pb2

from gateway.dialects.velesio.frames import MOST_BYTES, portions, unsplit
from gateway.dialects.velesio.llama_stream import LlamaStream
from gateway.errors import Problem

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from(list("data: \x01\u2028🎲")))
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 200))
TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=300)


def read(frames: list[bytes]) -> list[dict[str, Any]]:
    """Reads frames as both versions of LLM for Unity would, who must agree."""
    single = [json.loads(frame.decode().strip().removeprefix("data: ")) for frame in frames]
    body = b"".join(frames).decode().replace("\n\n", "")
    assert json.loads("[" + ",".join(part for part in body.split("data: ") if part) + "]") == single
    return single


def stream(events: list[event_pb2.CompleteEvent], **more: Any) -> list[bytes]:
    renderer = LlamaStream(**more)
    return [frame for event in events for frame in renderer.feed(event)]


def delta(text: str, tokens: list[int], **more: Any) -> event_pb2.CompleteEvent:
    return event_pb2.CompleteEvent(delta=event_pb2.Delta(text=text, token_ids=tokens, **more))


def done(stop: str = "") -> list[event_pb2.CompleteEvent]:
    finished = event_pb2.Finished(reason=event_pb2.FINISH_REASON_STOP, stop_sequence=stop)
    return [
        event_pb2.CompleteEvent(finished=finished),
        event_pb2.CompleteEvent(done=event_pb2.Done()),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(LONG, TOKENS), max_size=3), LONG)
def test_frames_are_short_and_add_up(deltas: list[tuple[str, list[int]]], stop: str) -> None:
    frames = stream([*(delta(*item) for item in deltas), *done(stop)])
    assert all(len(frame) < MOST_BYTES for frame in frames)
    parts = read(frames)
    assert "".join(part["content"] for part in parts) == "".join(text for text, _ in deltas)
    tokens = [token for part in parts for token in part["tokens"]]
    assert tokens == [token for _, own in deltas for token in own]
    assert [part["stop"] for part in parts] == [False] * (len(parts) - 1) + [True]


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 20))
def test_scores_don_t_make_frames_long(count: int, alternatives: int) -> None:
    top = [event_pb2.TokenLogprob(token="ab", token_id=n, bytes=b"ab") for n in range(alternatives)]
    scores = [
        event_pb2.TokenLogprob(token="ab", token_id=n, bytes=b"ab", top=top) for n in range(count)
    ]
    frames = stream([delta("ab" * count, list(range(count)), logprobs=scores)], scored=True)
    assert all(len(frame) < MOST_BYTES for frame in frames)
    parts = read(frames)
    found = [score["id"] for part in parts for score in part.get("completion_probabilities", [])]
    assert found == list(range(count))
    assert "".join(part["content"] for part in parts) == "ab" * count


@settings(deadline=None)
@given(TEXTS)
def test_failures_are_frames(message: str) -> None:
    renderer = LlamaStream()
    (part,) = read([renderer.fail(Problem("INTERNAL", message))])
    assert part["error"]["message"] == message
    assert renderer.finished


@settings(deadline=None)
@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_json_stays_the_same_without_marks(value: Any) -> None:
    written = unsplit(orjson.dumps(value))
    assert b"data: " not in written
    assert orjson.loads(written) == value


@settings(deadline=None)
@given(LONG, TOKENS)
def test_portions_are_all_there_is(text: str, tokens: list[int]) -> None:
    cut = list(portions(text, tokens))
    assert "".join(part for part, _ in cut) == text
    assert [token for _, part in cut for token in part] == tokens
    assert all(part or own for part, own in cut)
