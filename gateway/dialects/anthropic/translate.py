"""Requests of the dialect, translated into requests of the inference service. No I/O."""

import re
from collections.abc import Sequence

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import message_pb2, sampling_pb2

from gateway.dialects.anthropic import schema
from gateway.dialects.anthropic.conversation import Conversation, to_conversation, to_tools
from gateway.errors import ProblemError, invalid, unsupported
from gateway.raw_json import json_object, raw_json
from gateway.spelling import Spelling, rules, spelling
from gateway.validation import missing

_MODES = {
    "auto": message_pb2.ToolChoice.MODE_AUTO,
    "any": message_pb2.ToolChoice.MODE_REQUIRED,
    "tool": message_pb2.ToolChoice.MODE_NAMED,
    "none": message_pb2.ToolChoice.MODE_NONE,
}
_REASONING = {"enabled": True, "adaptive": None, "disabled": False}
_FORCING = ("any", "tool")
_RULES = rules(
    (r"^sampling\.stop(\[\d+\])?$", r"stop_sequences\1"),
    (r"^sampling\.(.+)$", r"\1"),
    (r"^(tools\[\d+\])\.parameters_json(?![\w])", r"\1.input_schema"),
    (r"^tool_choice\.mode$", "tool_choice.type"),
    (r"^guide(\.json_schema)?(?![\w])", "output_config.format.schema"),
    (r"^user$", "metadata.user_id"),
    (r"^reasoning$", "thinking.type"),
)
_PART = re.compile(r"^messages\[(\d+)\](?:\.parts\[(\d+)\])?(?![\w])")


def to_chat_request(
    body: schema.MessagesRequest,
) -> tuple[inference_pb2.ChatRequest, Spelling]:
    """Translates a request for a message; with it comes how its fields are spelled.

    Raises:
        ProblemError: fields contradict each other, or one is not supported.
    """
    for name, value in (("container", body.container), ("mcp_servers", body.mcp_servers)):
        if raw_json(value) not in (b"", b"[]"):
            raise unsupported(name, "tools run where the caller is")
    talk = _conversation(body)
    budget = body.thinking.budget_tokens if body.thinking is not None else None
    if budget is not None and budget >= body.max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.", "max_tokens")
    request = inference_pb2.ChatRequest(
        model=body.model,
        messages=talk.messages,
        sampling=sampling_pb2.Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            max_tokens=body.max_tokens,
            stop=body.stop_sequences,
        ),
        guide=_guide(body.output_config),
        tools=to_tools(body.tools or ()),
        user=(body.metadata and body.metadata.user_id) or "",
        reasoning=None if body.thinking is None else _REASONING[body.thinking.type],
    )
    _add_choice(request, body.tool_choice)
    return request, _spelling(talk)


def to_template_request(
    body: schema.CountTokensRequest,
) -> tuple[inference_pb2.ApplyTemplateRequest, Spelling]:
    """Translates a request to count into one for the prompt that would be counted.

    Raises:
        ProblemError: fields contradict each other, or one is not supported.
    """
    talk = _conversation(body)
    tools, choice = to_tools(body.tools or ()), body.tool_choice
    _ = _choice(choice, tools)
    request = inference_pb2.ApplyTemplateRequest(
        model=body.model,
        messages=talk.messages,
        # Tools that must not be called are not told to the model.
        tools=() if choice is not None and choice.type == "none" else tools,
    )
    return request, _spelling(talk)


def _conversation(body: schema.CountTokensRequest) -> Conversation:
    if body.thinking is not None:
        _check_thinking(body.thinking, body.tool_choice)
    return to_conversation(body.system, body.messages)


def _check_thinking(thinking: schema.Thinking, choice: schema.MessageToolChoice | None) -> None:
    if thinking.type not in _REASONING:
        raise unsupported("thinking.type", "no model here tells its progress between calls")
    if thinking.type != "enabled":
        return
    if thinking.budget_tokens is None:
        raise missing("thinking.budget_tokens")
    if choice is not None and choice.type in _FORCING:
        message = "Thinking may not be enabled when tool_choice forces tool use."
        raise invalid(message, "tool_choice")


def _guide(config: schema.OutputConfig | None) -> sampling_pb2.Guide | None:
    if config is None or config.format is None:
        return None
    path = "output_config.format.schema"
    document = json_object(config.format.schema, path)
    if not document:
        raise missing(path)
    return sampling_pb2.Guide(json_schema=document)


def _add_choice(
    request: inference_pb2.ChatRequest, choice: schema.MessageToolChoice | None
) -> None:
    chosen = _choice(choice, request.tools)
    if chosen is None or choice is None:
        return
    request.tool_choice.CopyFrom(chosen)
    if choice.disable_parallel_tool_use is not None:
        request.parallel_tool_calls = not choice.disable_parallel_tool_use


def _choice(
    choice: schema.MessageToolChoice | None, tools: Sequence[message_pb2.Tool]
) -> message_pb2.ToolChoice | None:
    if choice is None:
        return None
    if not tools:
        if choice.type in _FORCING:
            raise invalid("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
        return None
    if choice.type != "tool":
        return message_pb2.ToolChoice(mode=_MODES[choice.type])
    if not choice.name:
        raise missing("tool_choice.name")
    if all(tool.name != choice.name for tool in tools):
        raise _no_such_tool(choice.name)
    return message_pb2.ToolChoice(mode=_MODES["tool"], name=choice.name)


def _no_such_tool(name: str) -> ProblemError:
    return invalid(
        f"Invalid 'tool_choice.name': there is no tool named '{name[:64]}'.", "tool_choice.name"
    )


def _spelling(talk: Conversation) -> Spelling:
    """Turns are counted otherwise there than here: instructions are one, results are many."""

    def placed(param: str) -> str:
        match = _PART.match(param)
        if match is None or int(match[1]) >= len(talk.places):
            return param
        places = talk.places[int(match[1])]
        part = int(match[2] or 0)
        return places[part] if part < len(places) else "messages"

    return spelling(_RULES, "messages", placed)
