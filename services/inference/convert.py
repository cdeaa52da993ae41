"""Reads requests: from the messages of `penstock.inference.v1` to the dataclasses of the domain."""

from collections.abc import Sequence
from typing import Any

from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1 import sampling_pb2 as sampling_pb

from services.inference.engine import Priority
from services.inference.requests import (
    CacheHint,
    ChatRequest,
    CompleteRequest,
    Guide,
    GuideKind,
    Image,
    Message,
    Sampling,
    Speaker,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)

_SPEAKERS = {
    message_pb.ROLE_SYSTEM: Speaker.SYSTEM,
    message_pb.ROLE_USER: Speaker.USER,
    message_pb.ROLE_ASSISTANT: Speaker.ASSISTANT,
    message_pb.ROLE_TOOL: Speaker.TOOL,
}
_LISTS = frozenset({"stop", "stop_token_ids"})


def to_chat_request(request: pb.ChatRequest) -> ChatRequest:
    """Reads a chat."""
    return ChatRequest(
        model=request.model,
        messages=to_messages(request.messages),
        sampling=to_sampling(request.sampling),
        tools=to_tools(request.tools),
        tool_choice=ToolChoice(ToolMode(request.tool_choice.mode), request.tool_choice.name),
        parallel_tool_calls=(
            request.parallel_tool_calls if request.HasField("parallel_tool_calls") else None
        ),
        guide=_to_guide(request.guide) if request.HasField("guide") else None,
        user=request.user,
        metadata=dict(request.metadata),
        priority=_to_priority(request.priority),
        request_id=request.request_id,
        reasoning=request.reasoning if request.HasField("reasoning") else None,
    )


def to_complete_request(request: pb.CompleteRequest) -> CompleteRequest:
    """Reads a completion."""
    return CompleteRequest(
        model=request.model,
        prompts=tuple(
            prompt.text if prompt.HasField("text") else tuple(prompt.token_ids.ids)
            for prompt in request.prompts
        ),
        sampling=to_sampling(request.sampling),
        echo=request.echo,
        suffix=request.suffix,
        guide=_to_guide(request.guide) if request.HasField("guide") else None,
        cache_hint=CacheHint(**_given(request.cache_hint)),
        user=request.user,
        metadata=dict(request.metadata),
        priority=_to_priority(request.priority),
        request_id=request.request_id,
    )


def to_sampling(sampling: sampling_pb.Sampling) -> Sampling:
    """Reads what was given; the names are the same."""
    values = _given(sampling)
    for name in _LISTS & values.keys():
        values[name] = tuple(values[name])
    if "logit_bias" in values:
        values["logit_bias"] = dict(sampling.logit_bias)
    return Sampling(**values)


def to_messages(messages: Sequence[message_pb.Message]) -> tuple[Message, ...]:
    """Reads a conversation."""
    return tuple(
        Message(
            speaker=_SPEAKERS[message.role],
            parts=tuple(_to_part(part) for part in message.parts),
            name=message.name,
            tool_calls=tuple(
                ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls
            ),
            tool_call_id=message.tool_call_id,
            reasoning=message.reasoning,
        )
        for message in messages
    )


def to_tools(tools: Sequence[message_pb.Tool]) -> tuple[Tool, ...]:
    """Reads declared functions."""
    return tuple(
        Tool(tool.name, tool.description, tool.parameters_json, tool.strict) for tool in tools
    )


def _given(message: Any) -> dict[str, Any]:
    """Fields of a message that were set, by name."""
    return {field.name: value for field, value in message.ListFields()}


def _to_part(part: message_pb.Part) -> str | Image:
    if part.HasField("image"):
        return Image(part.image.data, part.image.mime_type)
    return part.text


def _to_guide(guide: sampling_pb.Guide) -> Guide:
    kind = GuideKind(guide.WhichOneof("guide"))
    source = "" if kind is GuideKind.JSON_OBJECT else str(getattr(guide, kind.value))
    return Guide(kind, source, guide.strict)


def _to_priority(priority: int) -> Priority:
    return Priority(priority) if priority else Priority.NORMAL
