"""Renders streamed completions, byte for byte as OpenAI does."""

from collections.abc import Sequence

import msgspec
import orjson
from penstock.inference.v1 import event_pb2

from gateway.dialects.openai import fields, schema, translate
from gateway.dialects.openai.answers import TextLogprobs, finish_reason, seconds, usage
from gateway.dialects.openai.envelope import error_frame
from gateway.dialects.openai.fields import Spelling
from gateway.errors import Problem
from gateway.sse import DONE, line_safe
from gateway.steps import Update


class CompletionStream:
    """One stream: state, no I/O."""

    def __init__(
        self,
        model: str,
        *,
        include_usage: bool = False,
        scored: bool = False,
        spelling: Spelling | None = None,
    ) -> None:
        self.finished = False
        self._model = model
        self._spelling = spelling
        self._include_usage = include_usage
        self._scored = scored
        self._logprobs: dict[int, TextLogprobs] = {}
        self._head = b""
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_head = b""
        self._text_tail = b',"index":0,"logprobs":null,"finish_reason":null}]' + self._tail

    @classmethod
    def of(cls, body: schema.CompletionRequest) -> "CompletionStream":
        """The stream that a request asks for."""
        return cls(
            translate.model_of(body),
            include_usage=translate.wants_usage(body),
            scored=body.logprobs is not None,
            spelling=fields.completion_spelling(body),
        )

    def text(self, text: str) -> bytes:
        """Makes the frame of text added to choice 0."""
        return self._text_head + line_safe(orjson.dumps(text)) + self._text_tail

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the frames of any other update."""
        event = update.complete
        kind = event.WhichOneof("event")
        if kind == "delta":
            return self._delta(event.delta)
        if kind == "finished":
            word = finish_reason(event.finished.reason)
            return (self._frame("", event.finished.index, finish=b'"' + word.encode() + b'"'),)
        if kind == "started":
            self._start(event.started)
        elif kind == "done":
            return self._done(event.done)
        return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure."""
        self.finished = True
        return error_frame(problem if self._spelling is None else self._spelling(problem))

    def _start(self, started: event_pb2.Started) -> None:
        head = orjson.dumps(
            {
                "id": started.id,
                "object": "text_completion",
                "created": seconds(started.create_time),
                "model": self._model,
                "system_fingerprint": started.fingerprint,
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._text_head = self._head + b'{"text":'

    def _delta(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        if not self._scored:
            if not delta.text:
                return ()
            if delta.index == 0:
                return (self.text(delta.text),)
            return (self._frame(delta.text, delta.index),)
        if not delta.text and not delta.logprobs:
            return ()
        state = self._logprobs.setdefault(delta.index, TextLogprobs())
        logprobs = msgspec.json.encode(state.feed(delta.logprobs))
        return (self._frame(delta.text, delta.index, logprobs=logprobs),)

    def _done(self, done: event_pb2.Done) -> Sequence[bytes]:
        self.finished = True
        if not self._include_usage:
            return (DONE,)
        counts = msgspec.json.encode(usage(done.usage))
        return (self._head + b'],"usage":' + counts + b"}\n\n", DONE)

    def _frame(
        self, text: str, index: int, *, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        return b'%s{"text":%s,"index":%d,"logprobs":%s,"finish_reason":%s}]%s' % (
            self._head,
            line_safe(orjson.dumps(text)),
            index,
            line_safe(logprobs),
            finish,
            self._tail,
        )
