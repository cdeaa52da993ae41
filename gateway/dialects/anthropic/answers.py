"""Answers of the inference service, translated into the dialect's. No I/O."""

from collections.abc import Collection

from penstock.inference.v1 import event_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.anthropic import answer_schema as answers
from gateway.dialects.anthropic import schema
from gateway.json_values import object_of

_REASONS: dict[int, answers.StopReason] = {
    event_pb2.FINISH_REASON_LENGTH: "max_tokens",
    event_pb2.FINISH_REASON_TOOL_CALLS: "tool_use",
    event_pb2.FINISH_REASON_CONTENT_FILTER: "refusal",
}

SIGNATURE = "penstock"
"""Of every thought. Anthropic's proves that a thought which comes back is its own; here there is
nothing to prove, and it isn't looked at. But clients drop thoughts whose signature is empty."""


def message(
    response: inference_pb2.ChatResponse, body: schema.MessagesRequest
) -> answers.MessageAnswer:
    """Renders a whole answer for its request."""
    choice = response.choices[0]
    text = "".join(part.text for part in choice.message.parts)
    content: list[answers.ThinkingBlock | answers.TextBlock | answers.ToolUseBlock] = []
    thinking = body.shown_thinking
    if choice.message.reasoning and thinking is not None:
        thought = "" if thinking.omitted else choice.message.reasoning
        content.append(answers.ThinkingBlock(thought, SIGNATURE))
    if text:
        content.append(answers.TextBlock(text))
    content.extend(
        answers.ToolUseBlock(tool_use_id(call.id), call.name, object_of(call.arguments_json))
        for call in choice.message.tool_calls
    )
    reason, sequence = stopped(
        choice.finish_reason, choice.stop_sequence, body.stop_sequences or ()
    )
    return answers.MessageAnswer(
        id=message_id(response.id),
        type="message",
        role="assistant",
        model=body.model,
        content=content,
        stop_reason=reason,
        stop_sequence=sequence,
        usage=usage(response.usage),
    )


def usage(counts: usage_pb2.Usage) -> answers.MessageUsage:
    """Renders token counts; their three inputs together are the prompt."""
    told = answers.MessageUsage(
        input_tokens=counts.prompt_tokens - counts.cached_tokens,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=counts.cached_tokens,
        output_tokens=counts.completion_tokens,
    )
    if counts.reasoning_tokens:
        told.output_tokens_details = answers.MessageOutputTokens(counts.reasoning_tokens)
    return told


def stopped(
    reason: int, sequence: str, asked: Collection[str]
) -> tuple[answers.StopReason, str | None]:
    """Renders why an answer ended. A model may have stop texts of its own, which are not told."""
    if reason == event_pb2.FINISH_REASON_STOP and sequence in asked:
        return "stop_sequence", sequence
    return _REASONS.get(reason, "end_turn"), None


def message_id(answer_id: str) -> str:
    """Spells the ID of an answer as the dialect does."""
    return f"msg_{answer_id.rpartition('-')[2]}"


def tool_use_id(call_id: str) -> str:
    """Spells the ID of a call as the dialect does."""
    return f"toolu_{call_id.removeprefix('call_')}"
