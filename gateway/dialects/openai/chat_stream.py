"""Renders a streamed chat, byte for byte as OpenAI does.

Role, reasoning, text and finish travel in different frames: some clients drop text that comes with
any of the others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from penstock.inference.v1 import event_pb2

from gateway.dialects.openai import fields, schema, translate
from gateway.dialects.openai.answers import chat_logprobs, finish_reason
from gateway.dialects.openai.chunk_stream import ChunkStream
from gateway.dialects.openai.envelope import error_frame
from gateway.dialects.openai.fields import Spelling
from gateway.errors import Problem
from gateway.sse import line_safe
from gateway.steps import Update

_ROLE = b'{"role":"assistant","content":"","refusal":null}'


class ChatStream(ChunkStream):
    """One stream: state, no I/O."""

    def __init__(
        self,
        model: str,
        *,
        choices: int = 1,
        include_usage: bool = False,
        scored: bool = False,
        legacy_functions: bool = False,
        spelling: Spelling | None = None,
        failed: Callable[[Problem], bytes] = error_frame,
    ) -> None:
        super().__init__(
            "chat.completion.chunk",
            model,
            text_head=b'{"index":0,"delta":{"content":',
            text_tail=b'},"logprobs":null,"finish_reason":null}]',
            include_usage=include_usage,
            scored=scored,
            spelling=spelling,
            failed=failed,
        )
        self._choices = choices
        self._legacy_functions = legacy_functions

    @classmethod
    def of(
        cls,
        body: schema.ChatCompletionRequest,
        failed: Callable[[Problem], bytes] = error_frame,
    ) -> "ChatStream":
        """The stream that a request asks for; `failed` makes the frame of a failure."""
        return cls(
            translate.model_of(body),
            choices=body.n or 1,
            include_usage=translate.wants_usage(body),
            scored=bool(body.logprobs),
            legacy_functions=bool(body.functions),
            spelling=fields.chat_spelling(body),
            failed=failed,
        )

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the frames of any other update."""
        event = update.chat
        kind = event.WhichOneof("event")
        if kind == "delta":
            return self._delta(event.delta)
        if kind == "reasoning_delta":
            return self._reasoning(event.reasoning_delta)
        if kind == "tool_delta":
            return self._tool_delta(event.tool_delta)
        if kind == "finished":
            return self._finished(event.finished)
        if kind == "started":
            return self._started(event.started)
        if kind == "done":
            return self._done(event.done)
        return ()

    def _started(self, started: event_pb2.Started) -> Sequence[bytes]:
        self._start(started)
        return [self._frame(index, _ROLE) for index in range(self._choices)]

    def _delta(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        if not self._scored:
            if not delta.text:
                return ()
            if delta.index == 0:
                return (self.text(delta.text),)
            return (self._frame(delta.index, b'{"content":' + orjson.dumps(delta.text) + b"}"),)
        if not delta.text and not delta.logprobs:
            return ()
        content = msgspec.json.encode(chat_logprobs(delta.logprobs))
        return (
            self._frame(
                delta.index,
                b'{"content":' + orjson.dumps(delta.text) + b"}",
                logprobs=b'{"content":' + content + b',"refusal":null}',
            ),
        )

    def _reasoning(self, delta: event_pb2.ReasoningDelta) -> Sequence[bytes]:
        if not delta.text:
            return ()
        said = b'{"reasoning_content":' + orjson.dumps(delta.text) + b"}"
        return (self._frame(delta.index, said),)

    def _tool_delta(self, delta: event_pb2.ToolDelta) -> Sequence[bytes]:
        frames: list[bytes] = []
        if delta.id or delta.name:
            opening: Mapping[str, Any] = {"name": delta.name, "arguments": ""}
            frames.append(self._call_frame(delta, opening, delta.id))
        if delta.arguments_json:
            frames.append(self._call_frame(delta, {"arguments": delta.arguments_json}))
        return frames

    def _call_frame(
        self, delta: event_pb2.ToolDelta, function: Mapping[str, Any], call_id: str | None = None
    ) -> bytes:
        if self._legacy_functions:
            return self._frame(delta.index, orjson.dumps({"function_call": function}))
        call: dict[str, Any] = {"index": delta.call_index}
        if call_id is not None:
            call |= {"id": call_id, "type": "function"}
        call["function"] = function
        return self._frame(delta.index, orjson.dumps({"tool_calls": [call]}))

    def _finished(self, finished: event_pb2.Finished) -> Sequence[bytes]:
        word = finish_reason(finished.reason, self._legacy_functions)
        return (self._frame(finished.index, b"{}", finish=b'"' + word.encode() + b'"'),)

    def _frame(
        self, index: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        return b'%s{"index":%d,"delta":%s,"logprobs":%s,"finish_reason":%s}]%s' % (
            self._head,
            index,
            line_safe(delta),
            line_safe(logprobs),
            finish,
            self._tail,
        )
