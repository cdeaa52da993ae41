"""Answers of the services, translated into the dialect's. No I/O."""

from collections.abc import Iterable
from typing import Any

import msgspec
from penstock.inference.v1 import event_pb2, usage_pb2
from penstock.retrieval.v1 import answer_pb2

from gateway.dialects.gel import answer_schema as schema
from gateway.json_values import finite

_FINISH: dict[int, schema.Finish] = {
    event_pb2.FINISH_REASON_LENGTH: "length",
    event_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    event_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
"""Whatever else ends an answer is `stop`."""

_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])


class WholeAnswer:
    """Gathers the events of an answer. `model` is what was asked for."""

    def __init__(self, model: str, *, scored: bool) -> None:
        self._model = model
        self._scored = scored
        self._id = ""
        self._texts: list[str] = []
        self._tokens: list[schema.RagTokenLogprob] = []
        self._calls: dict[int, event_pb2.ToolDelta] = {}
        self._reason = 0
        self._usage = schema.RagUsage(0, 0, 0)
        self.finished = False

    def add(self, event: answer_pb2.AnswerEvent) -> None:
        """Takes an event."""
        chat = event.chat
        match chat.WhichOneof("event"):
            case "started":
                self._id = chat.started.id
            case "delta":
                self._texts.append(chat.delta.text)
                self._tokens += logprobs(chat.delta.logprobs)
            case "tool_delta":
                self._add_call(chat.tool_delta)
            case "finished":
                self._reason = chat.finished.reason
            case "done":
                self._usage = usage(chat.done.usage)
                self.finished = True
            case _:
                pass

    def body(self) -> bytes:
        """Renders the whole answer."""
        calls = [
            schema.RagAnswerCall(call.id, "function", call.name, _arguments(call.arguments_json))
            for call in self._calls.values()
        ]
        text: str | None = "".join(self._texts)
        if calls and not text:
            text = None
        answer = schema.Rag(
            id=self._id,
            model=self._model,
            text=text,
            finish_reason=finish_reason(self._reason),
            usage=self._usage,
            logprobs=schema.RagLogprobs(self._tokens) if self._scored else None,
            tool_calls=calls,
            response=text,
        )
        return msgspec.json.encode(answer)

    def _add_call(self, delta: event_pb2.ToolDelta) -> None:
        call = self._calls.setdefault(delta.call_index, event_pb2.ToolDelta())
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        call.arguments_json += delta.arguments_json


def finish_reason(reason: int) -> schema.Finish:
    """Renders why an answer ended."""
    return _FINISH.get(reason, "stop")


def usage(counts: usage_pb2.Usage) -> schema.RagUsage:
    """Renders token counts."""
    return schema.RagUsage(counts.prompt_tokens, counts.completion_tokens, counts.total_tokens)


def logprobs(tokens: Iterable[event_pb2.TokenLogprob]) -> list[schema.RagTokenLogprob]:
    """Renders tokens and their probabilities."""
    return [
        schema.RagTokenLogprob(
            token.token,
            finite(token.logprob),
            list(token.bytes),
            [schema.RagTopLogprob(t.token, finite(t.logprob), list(t.bytes)) for t in token.top],
        )
        for token in tokens
    ]


def _arguments(text: str) -> object:
    """What a model wrote for arguments is not always JSON."""
    try:
        return _ARGUMENTS.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return text
