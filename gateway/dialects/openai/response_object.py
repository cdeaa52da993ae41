"""The response object: what was asked for, as it is told back, and what has come of it. No I/O."""

from collections.abc import Sequence
from typing import Any

import msgspec
from penstock.inference.v1 import event_pb2, usage_pb2

from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.response_schema import (
    NamedTool,
    ResponseCreate,
    ResponseTool,
    ResponseToolChoice,
    TextFormat,
)
from gateway.dialects.openai.response_translate import FILE_SEARCH
from gateway.raw_json import AnyJson, raw_json

DEFAULT_RESULTS = 10
"""Passages that a search finds, where the tool doesn't say."""

_REASONS: dict[int, answers.IncompleteDetails] = {
    event_pb2.FINISH_REASON_LENGTH: answers.IncompleteDetails("max_output_tokens"),
    event_pb2.FINISH_REASON_CONTENT_FILTER: answers.IncompleteDetails("content_filter"),
}
_UNSET = msgspec.UNSET


def is_cut(reason: int) -> bool:
    """Tells whether an answer that ended so lacks its end."""
    return reason in _REASONS or reason == event_pb2.FINISH_REASON_CANCELLED


class Draft:
    """A response on its way."""

    def __init__(self, body: ResponseCreate, response_id: str) -> None:
        self.id = response_id
        self.created_at = 0
        self._body = body
        self._text = _text(body)
        self._tools = [_tool(tool) for tool in body.tools or ()]
        self._choice = _choice(body.tool_choice)

    def ended(
        self,
        reason: int,
        output: Sequence[answers.OutputItem],
        usage: usage_pb2.Usage,
        completed_at: int,
    ) -> answers.Response:
        """Renders the response once generation has ended."""
        cut = is_cut(reason)
        return self.rendered(
            "incomplete" if cut else "completed",
            output,
            usage=_usage(usage),
            incomplete=_REASONS.get(reason),
            completed_at=None if cut else completed_at,
        )

    def rendered(
        self,
        status: Any,
        output: Sequence[answers.OutputItem] = (),
        *,
        usage: answers.ResponseUsage | None = None,
        incomplete: answers.IncompleteDetails | None = None,
        failure: answers.ResponseFailure | None = None,
        completed_at: int | None = None,
    ) -> answers.Response:
        """Renders the response as it stands."""
        body = self._body
        return answers.Response(
            id=self.id,
            created_at=self.created_at,
            status=status,
            completed_at=completed_at,
            error=failure,
            incomplete_details=incomplete,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            model=body.model,
            output=list(output),
            parallel_tool_calls=body.parallel_tool_calls is not False,
            previous_response_id=body.previous_response_id,
            reasoning=answers.ReasoningEcho(body.reasoning.effort if body.reasoning else None),
            store=bool(body.store),
            temperature=1.0 if body.temperature is None else body.temperature,
            text=self._text,
            tool_choice=self._choice,
            tools=self._tools,
            top_p=1.0 if body.top_p is None else body.top_p,
            usage=usage,
            user=body.user,
            metadata=body.metadata or {},
            max_tool_calls=body.max_tool_calls,
            prompt_cache_key=body.prompt_cache_key,
            safety_identifier=body.safety_identifier,
            top_logprobs=body.top_logprobs or 0,
        )


def _usage(counts: usage_pb2.Usage) -> answers.ResponseUsage:
    return answers.ResponseUsage(
        input_tokens=counts.prompt_tokens,
        input_tokens_details=answers.InputTokens(cached_tokens=counts.cached_tokens),
        output_tokens=counts.completion_tokens,
        output_tokens_details=answers.OutputTokens(counts.reasoning_tokens),
        total_tokens=counts.total_tokens,
    )


def _text(body: ResponseCreate) -> answers.TextEcho:
    config = body.text
    if config is None:
        return answers.TextEcho(format=answers.TextFormatEcho(type="text"))
    return answers.TextEcho(
        format=_format(config.format),
        verbosity=_UNSET if config.verbosity is None else config.verbosity,
    )


def _format(form: TextFormat | None) -> answers.TextFormatEcho:
    if form is None or form.type != "json_schema":
        return answers.TextFormatEcho(type="text" if form is None else form.type)
    return answers.TextFormatEcho(
        type=form.type,
        name=form.name or "",
        description=form.description,
        schema=_json(form.schema),
        strict=bool(form.strict),
    )


def _tool(tool: ResponseTool) -> answers.FunctionEcho | answers.FileSearchEcho:
    if tool.type == FILE_SEARCH:
        return answers.FileSearchEcho(
            vector_store_ids=tool.vector_store_ids or [],
            max_num_results=tool.max_num_results or DEFAULT_RESULTS,
            filters=tool.filters,
            ranking_options=tool.ranking_options,
        )
    return answers.FunctionEcho(
        name=tool.name or "",
        description=tool.description,
        parameters=_json(tool.parameters),
        strict=bool(tool.strict),
    )


def _choice(choice: str | ResponseToolChoice | None) -> str | answers.ToolChoiceEcho:
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return answers.ToolChoiceEcho(
        type=choice.type,
        name=_UNSET if choice.name is None else choice.name,
        mode=_UNSET if choice.mode is None else choice.mode,
        tools=_UNSET if choice.tools is None else [_named(tool) for tool in choice.tools],
    )


def _named(tool: NamedTool) -> answers.ToolChoiceEcho:
    return answers.ToolChoiceEcho(type=tool.type, name=_UNSET if tool.name is None else tool.name)


def _json(raw: AnyJson) -> msgspec.Raw | None:
    """JSON that is told back as it came, but on one line: events are lines."""
    data = raw_json(raw)
    return msgspec.Raw(msgspec.json.format(data, indent=-1)) if data else None
