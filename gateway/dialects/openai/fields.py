"""Field paths of the inference service, spelled as the dialect spells them."""

from collections.abc import Callable, Mapping

from gateway.dialects.openai import schema, translate
from gateway.spelling import Rule, Spelling, rules, spelling

__all__ = ["Rule", "Spelling", "chat_spelling", "completion_spelling", "spelling"]

_CHAT_RULES = rules(
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
    for name in translate.reasoning_switches(body):
        renamed.setdefault("reasoning", name)
    if body.functions:
        renamed["tool_choice"] = "function_call"
        renamed["tools"] = "functions"
    return spelling(_CHAT_RULES, "messages", _renaming(renamed))


def prompt_spelling() -> Spelling:
    """The spelling for conversations that are only rendered."""
    return spelling(_CHAT_RULES, "messages")


def completion_spelling(body: schema.CompletionRequest) -> Spelling:
    """The spelling for one completion request."""
    renamed: dict[str, str] = {}
    if body.model is None:
        renamed["model"] = "deployment_id"
    if isinstance(body.prompt, str) or isinstance(body.prompt[0], int):
        renamed["prompt[0]"] = "prompt"
    return spelling(_CHAT_RULES, "prompt", _renaming(renamed))


def _renaming(renamed: Mapping[str, str]) -> Callable[[str], str]:
    """Spells what this one request calls by another name."""

    def rename(param: str) -> str:
        if param.startswith("tools[") and "tools" in renamed:
            param = param.replace("tools[", "functions[", 1).replace(".function.", ".", 1)
        for name, other in renamed.items():
            if param == name or param.startswith((f"{name}[", f"{name}.")):
                return other + param[len(name) :]
        return param

    return rename
