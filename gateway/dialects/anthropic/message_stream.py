"""Renders a streamed message, event by event as Anthropic does."""

from collections.abc import Mapping, Sequence

import msgspec
import orjson
from penstock.inference.v1 import event_pb2, usage_pb2

from gateway.dialects.anthropic import answers, schema
from gateway.dialects.anthropic.answer_schema import (
    MessageAnswer,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from gateway.dialects.anthropic.envelope import error_body
from gateway.errors import Problem
from gateway.spelling import Spelling
from gateway.sse import line_safe
from gateway.steps import Update

_TEXT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
    b'{"type":"text_delta","text":%s}}\n\n'
)
_THINKING = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
    b'{"type":"thinking_delta","thinking":%s}}\n\n'
)


def event(kind: str, **fields: object) -> bytes:
    """Makes the frame of one event."""
    data = line_safe(msgspec.json.encode({"type": kind, **fields}))
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


PING = event("ping")

_NO_INPUT = msgspec.Raw(b"{}")
"""What a call has before its arguments come."""


class MessageStream:
    """One stream: state, no I/O."""

    def __init__(self, body: schema.MessagesRequest, request_id: str, spelling: Spelling) -> None:
        self._model = body.model
        self._stops = frozenset(body.stop_sequences or ())
        self._thinking = body.shown_thinking
        self._request_id = request_id
        self._spelling = spelling
        self._blocks = 0
        """Blocks begun so far; the last of them may be open."""
        self._open = ""
        """Type of the block that is open."""
        self._call = -1
        self._reason: Mapping[str, str | None] = {}
        self.finished = False

    def text(self, text: str) -> bytes:
        """Makes the frame of more text; the first brings what opens its block."""
        delta = line_safe(orjson.dumps(text))
        if self._open == "text":
            return _TEXT % (self._blocks - 1, delta)
        opening = self._begin("text", TextBlock(""))
        return b"".join((*opening, _TEXT % (self._blocks - 1, delta)))

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the frames of any other update."""
        chat = update.chat
        match chat.WhichOneof("event"):
            case "delta":
                return (self.text(chat.delta.text),) if chat.delta.text else ()
            case "reasoning_delta":
                return self._thought(chat.reasoning_delta.text)
            case "tool_delta":
                return self._tool_delta(chat.tool_delta)
            case "started":
                return (self._started(chat.started),)
            case "finished":
                finished = chat.finished
                found = answers.stopped(finished.reason, finished.stop_sequence, self._stops)
                self._reason = {"stop_reason": found[0], "stop_sequence": found[1]}
                return self._end()
            case "done":
                return self._done(chat.done)
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        self.finished = True
        body = error_body(self._spelling(problem), self._request_id)
        return event("error", error=body["error"], request_id=self._request_id)

    def _started(self, started: event_pb2.Started) -> bytes:
        message = MessageAnswer(
            id=answers.message_id(started.id),
            type="message",
            role="assistant",
            model=self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            # How much of the prompt a cache holds is known, and told, at the end.
            usage=answers.usage(usage_pb2.Usage(prompt_tokens=started.prompt_tokens)),
        )
        return event("message_start", message=message)

    def _thought(self, text: str) -> Sequence[bytes]:
        if self._thinking is None or not text:
            return ()
        opened = self._open == "thinking"
        frames = [] if opened else self._begin("thinking", ThinkingBlock("", ""))
        if not self._thinking.omitted:
            frames.append(_THINKING % (self._blocks - 1, line_safe(orjson.dumps(text))))
        return frames

    def _tool_delta(self, delta: event_pb2.ToolDelta) -> Sequence[bytes]:
        frames: list[bytes] = []
        if delta.call_index != self._call or self._open != "tool_use":
            self._call = delta.call_index
            call = answers.tool_use_id(delta.id)
            frames += self._begin("tool_use", ToolUseBlock(call, delta.name, _NO_INPUT))
        if delta.arguments_json:
            piece = {"type": "input_json_delta", "partial_json": delta.arguments_json}
            frames.append(event("content_block_delta", index=self._blocks - 1, delta=piece))
        return frames

    def _begin(self, kind: str, block: ThinkingBlock | TextBlock | ToolUseBlock) -> list[bytes]:
        frames = [*self._end()]
        frames.append(event("content_block_start", index=self._blocks, content_block=block))
        if not self._blocks:
            frames.append(PING)
        self._blocks += 1
        self._open = kind
        return frames

    def _end(self) -> Sequence[bytes]:
        if not self._open:
            return ()
        ended, self._open = self._open, ""
        index = self._blocks - 1
        stop = event("content_block_stop", index=index)
        if ended != "thinking":
            return (stop,)
        signed = {"type": "signature_delta", "signature": answers.SIGNATURE}
        return event("content_block_delta", index=index, delta=signed), stop

    def _done(self, done: event_pb2.Done) -> Sequence[bytes]:
        self.finished = True
        return (
            *self._end(),
            event("message_delta", delta=self._reason, usage=answers.usage(done.usage)),
            event("message_stop"),
        )
