"""Requests of the Responses API, translated into requests of the inference service. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import sampling_pb2

from gateway.dialects.openai import schema as chat
from gateway.dialects.openai.conversation import to_tool_choice, to_tools
from gateway.dialects.openai.fields import Rule, Spelling, spelling
from gateway.dialects.openai.response_items import Dialogue, Entry, to_dialogue
from gateway.dialects.openai.response_schema import (
    InputItem,
    NamedTool,
    ResponseCreate,
    ResponseTool,
    ResponseToolChoice,
    TextFormat,
)
from gateway.dialects.openai.translate import NO_EFFORT
from gateway.errors import Problem, ProblemError, invalid, unsupported
from gateway.raw_json import json_object, raw_json
from gateway.validation import missing

LOGPROBS = "message.output_text.logprobs"
RESULTS = "file_search_call.results"
_INCLUDABLE = (LOGPROBS, RESULTS)
FILE_SEARCH = "file_search"
_FOREIGN = {
    "conversation": "conversations go on by previous_response_id",
    "prompt": "no prompts are kept; send the instructions themselves",
    "context_management": "nothing is compacted",
    "moderation": "there is no moderation",
}
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Translation:
    """A request as the inference service takes it, and how its fields are spelled here."""

    request: inference_pb2.ChatRequest
    spell: Spelling


def entries_of(body: ResponseCreate) -> list[Entry]:
    """The items of a request; a text is what the user says."""
    if isinstance(body.input, str):
        return [Entry(InputItem(type="message", role="user", content=body.input), "input")]
    return [Entry(item, f"input[{number}]") for number, item in enumerate(body.input)]


def check(body: ResponseCreate) -> None:
    """Refuses what can't be honoured.

    Raises:
        ProblemError: a field is not supported, or contradicts another.
    """
    if body.background:
        raise unsupported("background", "responses are answered at once, whole or as a stream")
    if body.truncation == "auto":
        raise unsupported("truncation", "nothing is left out; send what fits, and 'disabled'")
    for name, why in _FOREIGN.items():
        if raw_json(getattr(body, name)):
            raise unsupported(name, why)
    reasoning = body.reasoning
    if reasoning is not None:
        for name in ("summary", "generate_summary"):
            if getattr(reasoning, name) is not None:
                raise unsupported(f"reasoning.{name}", "no reasoning is summarised")
    check_include(body.include or (), "include")
    if body.top_logprobs is not None and LOGPROBS not in (body.include or ()):
        raise invalid(
            f"Invalid 'top_logprobs': it needs '{LOGPROBS}' in 'include'.", "top_logprobs"
        )
    for number, tool in enumerate(body.tools or ()):
        if tool.type == FILE_SEARCH and tool.vector_store_ids is None:
            raise missing(f"tools[{number}].vector_store_ids")
    if body.stream_options is not None:
        if not body.stream:
            raise invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
            )
        if body.stream_options.include_usage is not None:
            raise unsupported("stream_options.include_usage", "the last event always tells usage")


def check_include(values: Sequence[str], param: str) -> None:
    """Refuses what can't be shown.

    Raises:
        ProblemError: one of the values is not supported.
    """
    for number, value in enumerate(values):
        if value not in _INCLUDABLE:
            names = ", ".join(f"'{name}'" for name in _INCLUDABLE)
            raise invalid(
                f"Invalid value: '{value[:_SHOWN]}'. Supported values are: {names}.",
                f"{param}[{number}]",
            )


def to_chat_request(
    body: ResponseCreate, entries: Sequence[Entry], passages: str = ""
) -> Translation:
    """Translates a request; `entries` are all items of its conversation, and `passages` what was
    found for it.

    Raises:
        ProblemError: a field can't be honoured, or the conversation can't be taken.
    """
    instructions = "\n\n".join(text for text in (body.instructions, passages) if text)
    dialogue = to_dialogue(instructions, entries)
    sampling = sampling_pb2.Sampling(temperature=body.temperature, top_p=body.top_p)
    if body.max_output_tokens is not None:
        sampling.max_tokens = body.max_output_tokens
    if wants_logprobs(body):
        sampling.logprobs = body.top_logprobs or 0
    request = inference_pb2.ChatRequest(
        model=body.model,
        messages=dialogue.messages,
        sampling=sampling,
        guide=_guide(None if body.text is None else body.text.format),
        user=body.user or body.safety_identifier or "",
        metadata=body.metadata or {},
        reasoning=False if body.reasoning and body.reasoning.effort == NO_EFFORT else None,
    )
    places = _add_tools(request, body)
    return Translation(request, _spelling(body, dialogue, places))


def wants_logprobs(body: ResponseCreate) -> bool:
    """Tells whether log-probabilities are to be shown."""
    return LOGPROBS in (body.include or ())


def searches(body: ResponseCreate) -> list[tuple[int, ResponseTool]]:
    """The searches that are to be made: each `file_search` among the tools that may be used, with
    its place."""
    found = [(n, tool) for n, tool in enumerate(body.tools or ()) if tool.type == FILE_SEARCH]
    choice = body.tool_choice
    if isinstance(choice, ResponseToolChoice):
        chosen = choice.tools or () if choice.type == "allowed_tools" else (choice,)
        return found if any(tool.type == FILE_SEARCH for tool in chosen) else []
    return [] if choice == "none" else found


def _guide(form: TextFormat | None) -> sampling_pb2.Guide | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return sampling_pb2.Guide(json_object=True)
    if form.name is None:
        raise missing("text.format.name")
    source = json_object(form.schema, "text.format.schema")
    if not source:
        raise missing("text.format.schema")
    return sampling_pb2.Guide(json_schema=source, strict=bool(form.strict))


def _add_tools(request: inference_pb2.ChatRequest, body: ResponseCreate) -> list[int]:
    """Adds the functions that may be called; returns where in `tools` each stands."""
    allowed = _allowed(body)
    places: list[int] = []
    for number, tool in enumerate(body.tools or ()):
        if tool.type == FILE_SEARCH:
            continue
        path = f"tools[{number}]"
        (function,) = to_tools([_function(tool, path)], path)
        if allowed is None or function.name in allowed:
            request.tools.append(function)
            places.append(number)
    if body.parallel_tool_calls is not None and request.tools:
        request.parallel_tool_calls = body.parallel_tool_calls
    choice = to_tool_choice(_choice(body), "tool_choice", request.tools)
    if choice is not None:
        request.tool_choice.CopyFrom(choice)
    return places


def _function(tool: ResponseTool, path: str) -> chat.FunctionDefinition:
    if tool.type != "function":
        raise unsupported(
            f"{path}.type",
            f"the tools that work here are 'function' and '{FILE_SEARCH}', and "
            f"'{tool.type[:_SHOWN]}' is neither",
        )
    if tool.name is None:
        raise missing(f"{path}.name")
    return chat.FunctionDefinition(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )


def _allowed(body: ResponseCreate) -> set[str] | None:
    """Names of the functions that the choice leaves; None for all."""
    choice = body.tool_choice
    if not isinstance(choice, ResponseToolChoice) or choice.type != "allowed_tools":
        return None
    if choice.mode is None:
        raise missing("tool_choice.mode")
    if choice.tools is None:
        raise missing("tool_choice.tools")
    for number, tool in enumerate(choice.tools):
        path = f"tool_choice.tools[{number}]"
        _check_given(tool, body, path)
    return {tool.name for tool in choice.tools if tool.name is not None}


def _check_given(tool: NamedTool, body: ResponseCreate, path: str) -> None:
    if tool.type not in ("function", FILE_SEARCH):
        names = f"'function', '{FILE_SEARCH}'"
        raise invalid(
            f"Invalid value: '{tool.type[:_SHOWN]}'. Supported values are: {names}.", f"{path}.type"
        )
    if tool.type == "function" and tool.name is None:
        raise missing(f"{path}.name")
    given = body.tools or ()
    if not any(one.type == tool.type and one.name == tool.name for one in given):
        name = tool.name if tool.name is not None else tool.type
        raise invalid(f"Invalid '{path}': there is no tool '{name[:_SHOWN]}' in 'tools'.", path)


def _choice(body: ResponseCreate) -> str | chat.FunctionName | None:
    choice = body.tool_choice
    if choice is None or isinstance(choice, str):
        # A search that was made is a use of tools.
        return "auto" if choice == "required" and searches(body) else choice
    if choice.type == "allowed_tools":
        if not any(tool.type == "function" for tool in choice.tools or ()):
            return "none"
        return "auto" if searches(body) else choice.mode
    if choice.type not in ("function", FILE_SEARCH):
        names = f"'function', 'allowed_tools', '{FILE_SEARCH}'"
        raise invalid(
            f"Invalid value: '{choice.type[:_SHOWN]}'. Supported values are: {names}.",
            "tool_choice.type",
        )
    _check_given(choice, body, "tool_choice")
    if choice.type == FILE_SEARCH:
        return "none"
    return chat.FunctionName(name=choice.name or "")


def _spelling(body: ResponseCreate, dialogue: Dialogue, places: Sequence[int]) -> Spelling:
    def message(match: re.Match[str]) -> str:
        number = int(match[1])
        return dialogue.origins[number] if number < len(dialogue.origins) else "input"

    def tool(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"tools[{places[number] if number < len(places) else number}]"

    rules: list[Rule] = [
        (re.compile(r"^messages\[(\d+)\].*$"), message),
        (re.compile(r"^messages$"), "input"),
        (re.compile(r"^tools\[(\d+)\]$"), tool),
        (re.compile(r"^tools\[(\d+)\](?=\.(name|description|strict))"), tool),
        (
            re.compile(r"^tools\[(\d+)\]\.parameters_json(?![\w])"),
            lambda match: f"{tool(match)}.parameters",
        ),
        (re.compile(r"^tool_choice\..*$"), "tool_choice"),
        (re.compile(r"^reasoning$"), "reasoning.effort"),
        (re.compile(r"^guide(\.json_schema|\.json_object)?$"), "text.format"),
        (re.compile(r"^guide\.strict$"), "text.format.strict"),
        (re.compile(r"^guide\.json_schema(?![\w])"), "text.format.schema"),
        (re.compile(r"^sampling\.max_tokens$"), "max_output_tokens"),
        (
            re.compile(r"^sampling\.logprobs$"),
            "include" if body.top_logprobs is None else "top_logprobs",
        ),
        (re.compile(r"^sampling\.(.+)$"), r"\1"),
    ]
    if body.user is None and body.safety_identifier is not None:
        rules.append((re.compile(r"^user$"), "safety_identifier"))
    return spelling(rules, "input")


def unknown_response(response_id: str) -> ProblemError:
    """Makes the error for a response that isn't stored."""
    return ProblemError(
        Problem("NOT_FOUND", f"Response with id '{response_id[:_SHOWN]}' not found.")
    )
