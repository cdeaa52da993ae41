"""Conversations in the form that chat templates take, and what tools mean for them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

from services.errors import InvalidArgument
from services.inference.engine import NO_OPTIONS
from services.inference.registry import ServedModel
from services.inference.requests import ChatRequest, Image, Message, Speaker, Tool, ToolMode
from services.inference.toolcalls import ToolFormat
from services.inference.validation import unsupported
from services.serving.models import ModelKind


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """How tools are offered to the model and read back from it."""

    offered: tuple[Tool, ...] = ()
    reads: ToolFormat | None = None
    """Format to read calls with; None leaves the text alone."""
    forced: str = ""
    """Tool whose call the prompt opens already."""
    required: bool = False
    """The answer is made of calls alone."""
    single: bool = False
    """The answer ends with its first call."""

    @property
    def opening(self) -> str:
        """Text that goes behind the rendered prompt."""
        return self.reads.opening(self.forced) if self.reads is not None and self.forced else ""


def plan_tools(request: ChatRequest, served: ServedModel) -> ToolPlan:
    """Decides how a request's tools are offered.

    Raises:
        InvalidArgument: names clash, or the choice names no tool that was given.
        UnsupportedParameter: the model can't call tools, or can't be held to this choice.
    """
    tools, choice = request.tools, request.tool_choice
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidArgument("'tools': two tools have the same name.", field="tools")
    if choice.mode is ToolMode.NAMED and choice.name not in names:
        raise InvalidArgument(
            f"'tool_choice.name': no tool is called '{choice.name}'.", field="tool_choice.name"
        )
    if choice.mode is ToolMode.REQUIRED and not tools:
        raise InvalidArgument(
            "'tool_choice': there are no tools to call.", field="tool_choice.mode"
        )
    if not tools or choice.mode is ToolMode.NONE:
        return ToolPlan()
    if served.tools is None:
        raise unsupported("tools", "its chat template knows none")
    for position, tool in enumerate(tools):
        if tool.strict and not served.loaded.engine.info.capabilities.json_schema:
            raise unsupported(f"tools[{position}].strict", "its engine has no guided decoding")
    forced = ""
    if choice.mode is ToolMode.NAMED:
        forced = choice.name
    elif choice.mode is ToolMode.REQUIRED:
        if len(tools) == 1:
            forced = names[0]
        elif not served.loaded.engine.info.capabilities.json_schema:
            raise unsupported(
                "tool_choice.mode", "it can be made to call one tool, not one of several; name it"
            )
    required = choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
    single = bool(forced) or request.parallel_tool_calls is False
    return ToolPlan(tools, served.tools, forced, required, single)


def check_chats(served: ServedModel, *, reasoning: bool | None = None) -> None:
    """Refuses conversations with models that only continue text, and thoughts of those that have
    none."""
    if served.kind is not ModelKind.CHAT or not served.loaded.text.chat_template:
        raise InvalidArgument(
            f"The model `{served.id}` only completes text: it has no chat template.", field="model"
        )
    if reasoning and served.thoughts is None:
        raise unsupported("reasoning", "it does not think before it answers")


def render(
    served: ServedModel,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    system_prompt: str = "",
    add_generation_prompt: bool = True,
) -> str:
    """Returns the text of a conversation's prompt.

    Raises:
        InvalidArgument: the template refuses it, or a tool's parameters are no JSON Schema.
        UnsupportedParameter: it holds images.
    """
    dialogue = _dialogue(served, messages, system_prompt)
    return served.loaded.text.render(
        dialogue, _declared(tools), add_generation_prompt=add_generation_prompt
    )


def prompt_ids(
    served: ServedModel,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    system_prompt: str = "",
    opening: str = "",
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Sequence[int]:
    """Returns the tokens of a conversation's prompt, opened for an answer that begins so; `options`
    are variables of the template.

    Raises as `render`.
    """
    dialogue = _dialogue(served, messages, system_prompt)
    return served.loaded.text.prompt(dialogue, _declared(tools), opening=opening, options=options)


def _dialogue(
    served: ServedModel, messages: Sequence[Message], system_prompt: str
) -> list[Mapping[str, Any]]:
    """The conversation as the model's template takes it."""
    dialogue: list[Mapping[str, Any]] = []
    if system_prompt and not any(message.speaker is Speaker.SYSTEM for message in messages):
        dialogue.append({"role": "system", "content": system_prompt})
    for position, message in enumerate(messages):
        dialogue.append(_message(message, position, served.tools))
    if served.tools is not None and served.tools.one_call_per_turn:
        return _one_call_each(dialogue)
    return dialogue


def _one_call_each(dialogue: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Makes of a turn with several calls that many turns, each followed by its call's results."""
    taken: set[int] = set()
    split: list[Mapping[str, Any]] = []
    for position, message in enumerate(dialogue):
        calls: Sequence[Mapping[str, Any]] = message.get("tool_calls", ())
        if position in taken:
            continue
        if len(calls) < 2:
            split.append(message)
            continue
        after = list(range(position + 1, len(dialogue)))
        results = list(takewhile(lambda place: dialogue[place]["role"] == "tool", after))
        for number, call in enumerate(calls):
            content = "" if number else message["content"]
            split.append({**message, "content": content, "tool_calls": [call]})
            for place in results:
                if place not in taken and dialogue[place].get("tool_call_id") == call["id"]:
                    taken.add(place)
                    split.append(dialogue[place])
    return split


def _declared(tools: Sequence[Tool]) -> list[Mapping[str, Any]]:
    return [_tool(tool, position) for position, tool in enumerate(tools)]


def _message(message: Message, position: int, calls: ToolFormat | None) -> Mapping[str, Any]:
    for index, part in enumerate(message.parts):
        if isinstance(part, Image):
            raise unsupported(f"messages[{position}].parts[{index}].image", "it takes no images")
    if not message.parts and not message.tool_calls:
        field = f"messages[{position}].parts"
        raise InvalidArgument(f"'{field}': may be empty only beside tool calls.", field=field)
    if message.tool_calls and message.speaker is not Speaker.ASSISTANT:
        field = f"messages[{position}].tool_calls"
        raise InvalidArgument(f"'{field}': only an assistant calls tools.", field=field)
    if message.reasoning and message.speaker is not Speaker.ASSISTANT:
        field = f"messages[{position}].reasoning"
        raise InvalidArgument(f"'{field}': only an assistant thinks.", field=field)
    rendered: dict[str, Any] = {"role": message.speaker.value, "content": message.text}
    if message.name:
        rendered["name"] = message.name
    if message.tool_call_id:
        rendered["tool_call_id"] = _identifier(message.tool_call_id, calls)
    if message.reasoning:
        rendered["reasoning_content"] = message.reasoning
    if message.tool_calls:
        rendered["tool_calls"] = [
            {
                "id": _identifier(call.id, calls),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments_json)},
            }
            for call in message.tool_calls
        ]
    return rendered


def _identifier(id: str, calls: ToolFormat | None) -> str:
    return id if calls is None else calls.identifier(id)


def _arguments(text: str) -> Any:
    """Arguments as an object; as the model wrote them where that is no JSON object."""
    try:
        value: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return cast("dict[str, Any]", value) if isinstance(value, dict) else text


def _tool(tool: Tool, position: int) -> Mapping[str, Any]:
    field = f"tools[{position}].parameters_json"
    try:
        parameters: object = json.loads(tool.parameters_json or '{"type":"object","properties":{}}')
    except (ValueError, RecursionError):
        raise InvalidArgument(f"'{field}': is not JSON.", field=field) from None
    if not isinstance(parameters, dict):
        raise InvalidArgument(f"'{field}': must be a JSON object.", field=field)
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": cast("dict[str, Any]", parameters),
    }
    return {"type": "function", "function": function}
