"""A conversation with a model: its history, and the answer that is coming in."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from penstock.inference.v1 import (
    event_pb2,
    inference_service_pb2,
    message_pb2,
    sampling_pb2,
    usage_pb2,
)
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

from services.cli.failures import Failure, UsageFailure


@dataclass
class Answer:
    """An answer, as far as it came."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, message_pb2.ToolCall] = field(default_factory=dict[int, message_pb2.ToolCall])
    reason: event_pb2.FinishReason.ValueType = event_pb2.FINISH_REASON_UNSPECIFIED
    usage: usage_pb2.Usage | None = None
    timings: event_pb2.Timings | None = None

    def add(self, event: event_pb2.ChatEvent) -> None:
        """Takes the next event of the stream."""
        match event.WhichOneof("event"):
            case "delta":
                self.text += event.delta.text
            case "reasoning_delta":
                self.reasoning += event.reasoning_delta.text
            case "tool_delta":
                delta = event.tool_delta
                call = self.calls.setdefault(delta.call_index, message_pb2.ToolCall())
                call.id = delta.id or call.id
                call.name = delta.name or call.name
                call.arguments_json += delta.arguments_json
            case "finished":
                self.reason = event.finished.reason
            case "done":
                self.usage, self.timings = event.done.usage, event.done.timings
            case _:
                pass

    @property
    def message(self) -> message_pb2.Message:
        """The answer as a turn of the conversation."""
        parts = [message_pb2.Part(text=self.text)] if self.text else []
        calls = [self.calls[index] for index in sorted(self.calls)]
        return message_pb2.Message(
            role=message_pb2.ROLE_ASSISTANT,
            parts=parts,
            tool_calls=calls,
            reasoning=self.reasoning,
        )


@dataclass
class Conversation:
    """What was said so far, and how answers are asked for."""

    model: str
    system: str = ""
    sampling: sampling_pb2.Sampling = field(default_factory=sampling_pb2.Sampling)
    tools: list[message_pb2.Tool] = field(default_factory=list[message_pb2.Tool])
    timeout_s: float = 600.0
    turns: list[message_pb2.Message] = field(default_factory=list[message_pb2.Message])

    def clear(self) -> None:
        """Forgets what was said."""
        self.turns.clear()

    def request(self, new: list[message_pb2.Message]) -> inference_service_pb2.ChatRequest:
        """Returns the request for an answer to the history and these new turns."""
        head = [text_message(message_pb2.ROLE_SYSTEM, self.system)] if self.system else []
        return inference_service_pb2.ChatRequest(
            model=self.model,
            messages=[*head, *self.turns, *new],
            sampling=self.sampling,
            tools=self.tools,
        )

    async def stream(
        self, stub: InferenceServiceStub, new: list[message_pb2.Message], answer: Answer
    ) -> AsyncGenerator[event_pb2.ChatEvent, None]:
        """Yields the events of an answer and collects them in `answer`. Closing it cancels."""
        call = stub.StreamChat(self.request(new), timeout=self.timeout_s)
        try:
            async for event in call:
                answer.add(event)
                yield event
        finally:
            call.cancel()
        if answer.usage is None:
            raise Failure("The answer was cut short: the stream ended before its last event.")

    async def run(
        self,
        stub: InferenceServiceStub,
        new: list[message_pb2.Message],
        answer: Answer,
        show: "Show",
    ) -> None:
        """Streams an answer to its end, showing each event."""
        async with aclosing(self.stream(stub, new, answer)) as events:
            async for event in events:
                show.event(event)

    def keep(self, new: list[message_pb2.Message], answer: Answer) -> None:
        """Adds a finished, or stopped, exchange to the history; an empty one leaves no trace."""
        if answer.text or answer.calls:
            self.turns += [*new, answer.message]


class Show(Protocol):
    """Shows a stream as it comes."""

    def event(self, event: event_pb2.ChatEvent) -> None:
        """Shows one event."""
        ...


def text_message(role: message_pb2.Role.ValueType, text: str) -> message_pb2.Message:
    """Returns a turn that says `text`."""
    return message_pb2.Message(role=role, parts=[message_pb2.Part(text=text)])


def tool_result(call: message_pb2.ToolCall, text: str) -> message_pb2.Message:
    """Returns the turn that answers a tool call."""
    return message_pb2.Message(
        role=message_pb2.ROLE_TOOL, parts=[message_pb2.Part(text=text)], tool_call_id=call.id
    )


def parse_tools(text: str) -> list[message_pb2.Tool]:
    """Reads a JSON list of `{"name", "description", "parameters"}`, plain or as OpenAI wraps them.

    Raises Failure when it is something else.
    """
    try:
        entries = json.loads(text)
        return [_tool(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageFailure(
            "The tools are not a JSON list of functions.",
            hint='Write [{"name": "…", "description": "…", "parameters": {JSON Schema}}].',
        ) from error


def _tool(entry: Any) -> message_pb2.Tool:
    fields = cast("Mapping[str, Any]", entry)
    function = cast("Mapping[str, Any]", fields.get("function", fields))
    parameters = function.get("parameters")
    return message_pb2.Tool(
        name=function["name"],
        description=function.get("description", ""),
        parameters_json=json.dumps(parameters) if parameters else "",
        strict=bool(function.get("strict", False)),
    )
