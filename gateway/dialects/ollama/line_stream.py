"""Renders streamed answers, one JSON object a line, as Ollama does."""

from collections.abc import Sequence

import msgspec
import orjson
from msgspec import UNSET
from penstock.inference.v1 import event_pb2, message_pb2

from gateway.dialects.ollama import answer_schema, answers, schema
from gateway.dialects.ollama.envelope import error_body
from gateway.errors import Problem
from gateway.spelling import Spelling
from gateway.sse import line_safe
from gateway.steps import Update

STREAM_TYPE = "application/x-ndjson"

HEADERS = (
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""Headers of every stream. Nothing can be said in one without being part of the answer."""

Line = answer_schema.OllamaChatAnswer | answer_schema.OllamaGenerateAnswer


class LineStream:
    """One stream: state, no I/O. A call of a tool is told when it is whole."""

    def __init__(
        self,
        body: schema.OllamaChatRequest | schema.OllamaGenerateRequest,
        spelling: Spelling,
    ) -> None:
        self._model = body.model
        self._chats = isinstance(body, schema.OllamaChatRequest)
        self._scored = bool(body.logprobs)
        self._thinks = body.think is not False
        self._spelling = spelling
        self._created_at = ""
        self._head, self._tail = b"", b""
        self._call: message_pb2.ToolCall | None = None
        self._calls = 0
        self._reason = 0
        self.finished = False

    def text(self, text: str) -> bytes:
        """Makes the line of more text."""
        return self._head + line_safe(orjson.dumps(text)) + self._tail

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the lines of any other update."""
        event = update.chat if update.HasField("chat") else update.complete
        match event.WhichOneof("event"):
            case "delta":
                return self._delta(event.delta)
            case "started":
                self._start(event.started)
                return ()
            case "finished":
                self._reason = event.finished.reason
                return self._called()
            case "done":
                return self._done(event.done)
            case "reasoning_delta":
                return self._thought(update.chat.reasoning_delta.text)
            case "tool_delta":
                return self._tool_delta(update.chat.tool_delta)
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the line of a failure. No other follows."""
        self.finished = True
        return line_safe(orjson.dumps(error_body(self._spelling(problem)))) + b"\n"

    def _start(self, started: event_pb2.Started) -> None:
        self._created_at = answers.moment(started.create_time)
        whole = msgspec.json.encode(self._line(""))
        # All lines of text are alike but for the text, which is the one that is empty here.
        self._head, _, rest = whole.rpartition(b'""')
        self._head, self._tail = line_safe(self._head), rest + b"\n"

    def _delta(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        if not self._scored:
            return (self.text(delta.text),) if delta.text else ()
        if not delta.text and not delta.logprobs:
            return ()
        line = self._line(delta.text)
        line.logprobs = answers.logprobs(delta.logprobs)
        return (_encoded(line),)

    def _thought(self, text: str) -> Sequence[bytes]:
        return (_encoded(self._line("", text)),) if text and self._thinks else ()

    def _tool_delta(self, delta: event_pb2.ToolDelta) -> Sequence[bytes]:
        lines: Sequence[bytes] = ()
        if delta.id or self._call is None:
            lines = self._called()
            self._call = message_pb2.ToolCall(id=delta.id, name=delta.name)
        self._call.arguments_json += delta.arguments_json
        return lines

    def _called(self) -> Sequence[bytes]:
        if self._call is None:
            return ()
        line = self._line("")
        if isinstance(line, answer_schema.OllamaChatAnswer):
            line.message.tool_calls = list(answers.calls([self._call], self._calls))
        self._call = None
        self._calls += 1
        return (_encoded(line),)

    def _done(self, done: event_pb2.Done) -> Sequence[bytes]:
        self.finished = True
        line = self._line("")
        line.done = True
        return (
            *self._called(),
            _encoded(answers.ended(line, self._reason, done.usage, done.timings)),
        )

    def _line(self, text: str, thought: str = "") -> Line:
        if self._chats:
            return answer_schema.OllamaChatAnswer(
                model=self._model,
                created_at=self._created_at,
                message=answers.said(text, thought),
                done=False,
            )
        return answer_schema.OllamaGenerateAnswer(
            model=self._model,
            created_at=self._created_at,
            response=text,
            thinking=thought or UNSET,
            done=False,
        )


def _encoded(line: Line) -> bytes:
    return line_safe(msgspec.json.encode(line)) + b"\n"
