"""Renders streamed completions, byte for byte as OpenAI does."""

from collections.abc import Callable, Sequence

import msgspec
import orjson
from penstock.inference.v1 import event_pb2

from gateway.dialects.openai import fields, schema, translate
from gateway.dialects.openai.answers import TextLogprobs, finish_reason
from gateway.dialects.openai.chunk_stream import ChunkStream
from gateway.dialects.openai.envelope import error_frame
from gateway.dialects.openai.fields import Spelling
from gateway.errors import Problem
from gateway.sse import line_safe
from gateway.steps import Update


class CompletionStream(ChunkStream):
    """One stream: state, no I/O."""

    def __init__(
        self,
        model: str,
        *,
        include_usage: bool = False,
        scored: bool = False,
        spelling: Spelling | None = None,
        failed: Callable[[Problem], bytes] = error_frame,
    ) -> None:
        super().__init__(
            "text_completion",
            model,
            text_head=b'{"text":',
            text_tail=b',"index":0,"logprobs":null,"finish_reason":null}]',
            include_usage=include_usage,
            scored=scored,
            spelling=spelling,
            failed=failed,
        )
        self._logprobs: dict[int, TextLogprobs] = {}

    @classmethod
    def of(
        cls,
        body: schema.CompletionRequest,
        failed: Callable[[Problem], bytes] = error_frame,
    ) -> "CompletionStream":
        """The stream that a request asks for; `failed` makes the frame of a failure."""
        return cls(
            translate.model_of(body),
            include_usage=translate.wants_usage(body),
            scored=body.logprobs is not None,
            spelling=fields.completion_spelling(body),
            failed=failed,
        )

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
