"""Renders a streamed answer, byte for byte as Gel does."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from penstock.inference.v1 import event_pb2
from penstock.retrieval.v1 import answer_pb2

from gateway.dialects.gel import answers
from gateway.dialects.gel.answer_schema import RagLogprobs
from gateway.dialects.gel.envelope import CLOSE, error_body
from gateway.dialects.gel.translate import respelled
from gateway.errors import Problem

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    CLOSE,
)
"""Headers of every stream."""

_TEXT_BLOCK = 0


class AnswerStream:
    """One stream: state, no I/O. `model` is what was asked for."""

    def __init__(self, model: str, *, scored: bool = False) -> None:
        self._model = model
        self._scored = scored
        self._open: int | None = None
        self._reason = 0
        self.finished = False

    def feed(self, event: answer_pb2.AnswerEvent) -> Sequence[bytes]:
        """Makes the frames of an event."""
        chat = event.chat
        match chat.WhichOneof("event"):
            case "delta":
                return self._delta(chat.delta)
            case "tool_delta":
                return self._tool_delta(chat.tool_delta)
            case "started":
                return self._started(chat.started)
            case "finished":
                self._reason = chat.finished.reason
                return self._stop()
            case "done":
                return self._done(chat.done)
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        self.finished = True
        body = error_body(respelled(problem))
        return _frame("error", error={"type": body["type"], "message": body["message"]})

    def _started(self, started: event_pb2.Started) -> Sequence[bytes]:
        message = {"id": started.id, "role": "assistant", "model": self._model, "usage": None}
        start = _frame("message_start", message=message)
        return start, *self._start(_TEXT_BLOCK, {"type": "text", "text": ""})

    def _delta(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        if not delta.text and not (self._scored and delta.logprobs):
            return ()
        tokens = msgspec.to_builtins(RagLogprobs(answers.logprobs(delta.logprobs)))
        return (
            _frame(
                "content_block_delta",
                index=_TEXT_BLOCK,
                delta={"type": "text_delta", "text": delta.text},
                logprobs=tokens if self._scored else None,
            ),
        )

    def _tool_delta(self, delta: event_pb2.ToolDelta) -> Sequence[bytes]:
        index = delta.call_index + 1
        frames: list[bytes] = []
        if delta.id or delta.name:
            frames += self._stop()
            block = {"id": delta.id, "type": "tool_use", "name": delta.name, "args": ""}
            frames += self._start(index, block)
        if delta.arguments_json:
            part = {"type": "tool_call_delta", "args": delta.arguments_json}
            frames.append(_frame("content_block_delta", index=index, delta=part))
        return frames

    def _done(self, done: event_pb2.Done) -> Sequence[bytes]:
        self.finished = True
        delta = {"stop_reason": answers.finish_reason(self._reason)}
        usage = msgspec.to_builtins(answers.usage(done.usage))
        return (
            *self._stop(),
            _frame("message_delta", delta=delta, usage=usage),
            _frame("message_stop"),
        )

    def _start(self, index: int, block: dict[str, str]) -> Sequence[bytes]:
        self._open = index
        return (_frame("content_block_start", index=index, content_block=block),)

    def _stop(self) -> Sequence[bytes]:
        if self._open is None:
            return ()
        index, self._open = self._open, None
        return (_frame("content_block_stop", index=index),)


def _frame(kind: str, **fields: Any) -> bytes:
    # As Gel's server writes JSON: a blank behind every colon and comma, and nothing but ASCII.
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode("ascii")
