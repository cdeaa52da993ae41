"""Field paths of the inference service, spelled as the dialect spells them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.dialects.openai import schema
from gateway.errors import Problem

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
"""A path of the service, and how the dialect spells it."""

_CHAT_RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), spelled)
    for pattern, spelled in (
        (r"^sampling\.stop\[\d+\]$", "stop"),
        (r"^(messages\[\d+\])\.parts\[(\d+)\]\.image.*$", r"\1.content[\2].image_url"),
        (r"^(messages\[\d+\])\.parts(\[\d+\])?.*$", r"\1.content"),
        (r"^(messages\[\d+\]\.tool_calls\[\d+\])\.name$", r"\1.function.name"),
        (r"^(messages\[\d+\]\.tool_calls\[\d+\])\.arguments_json$", r"\1.function.arguments"),
        (r"^(tools\[\d+\])\.parameters_json(?![\w])", r"\1.function.parameters"),
        (r"^(tools\[\d+\])\.(name|description|strict)$", r"\1.function.\2"),
        (r"^tool_choice\.name$", "tool_choice.function.name"),
        (r"^tool_choice\.mode$", "tool_choice"),
        (r"^guide(\.json_schema|\.json_object)?$", "response_format"),
        (r"^guide\.strict$", "response_format.json_schema.strict"),
        (r"^guide\.json_schema(?![\w])", "response_format.json_schema.schema"),
        (r"^prompts(\[\d+\])?\.(text|token_ids)(\.ids)?", r"prompt\1"),
        (r"^prompts", "prompt"),
        (r"^sampling\.(.+)$", r"\1"),
    )
)

Spelling = Callable[[Problem], Problem]
"""Spells a problem's field as the request did."""


def chat_spelling(body: schema.ChatCompletionRequest) -> Spelling:
    """The spelling for one chat request."""
    renamed: dict[str, str] = {}
    if body.max_completion_tokens is not None:
        renamed["max_tokens"] = "max_completion_tokens"
    if body.top_logprobs is not None:
        renamed["logprobs"] = "top_logprobs"
    if body.model is None:
        renamed["model"] = "deployment_id"
    if body.user is None and body.safety_identifier is not None:
        renamed["user"] = "safety_identifier"
    if body.functions:
        renamed["tool_choice"] = "function_call"
        renamed["tools"] = "functions"
    return _Spelling(_CHAT_RULES, renamed, "messages")


def completion_spelling(body: schema.CompletionRequest) -> Spelling:
    """The spelling for one completion request."""
    renamed: dict[str, str] = {}
    if body.model is None:
        renamed["model"] = "deployment_id"
    if isinstance(body.prompt, str) or isinstance(body.prompt[0], int):
        renamed["prompt[0]"] = "prompt"
    return _Spelling(_CHAT_RULES, renamed, "prompt")


def spelling(rules: Sequence[Rule], context_param: str | None = None) -> Spelling:
    """A spelling by rules, the first that fits; `context_param` is what is named too long."""
    return _Spelling(rules, {}, context_param)


class _Spelling:
    """Respells the field of a problem, and the mention of it in the message."""

    def __init__(
        self, rules: Sequence[Rule], renamed: Mapping[str, str], context_param: str | None
    ) -> None:
        self._rules = rules
        self._renamed = renamed
        self._context_param = context_param

    def __call__(self, problem: Problem) -> Problem:
        param = problem.param
        if param is None:
            if problem.reason == "CONTEXT_LENGTH_EXCEEDED":
                return replace(problem, param=self._context_param)
            return problem
        spelled = self._spell(param)
        if spelled == param:
            return problem
        mention = re.compile(rf"(?<![\w.\[]){re.escape(param)}(?![\w\[])")
        message = mention.sub(lambda _: spelled, problem.message)
        return replace(problem, param=spelled, message=message)

    def _spell(self, param: str) -> str:
        for pattern, spelled in self._rules:
            found, count = pattern.subn(spelled, param)
            if count:
                param = found
                break
        if param.startswith("tools[") and "tools" in self._renamed:
            param = param.replace("tools[", "functions[", 1).replace(".function.", ".", 1)
        for name, renamed in self._renamed.items():
            if param == name or param.startswith((f"{name}[", f"{name}.")):
                return renamed + param[len(name) :]
        return param
