"""Field paths of the services, spelled as the dialect spells them. No I/O."""

from gateway.spelling import Spelling, rules, spelling

_COMPLETION_RULES = rules(
    (r"^prompts\[(\d+)\](?:\.token_ids(?:\.ids)?|\.text)?", r"prompt[\1]"),
    (r"^prompts$", "prompt"),
    (r"^guide\.gbnf.*$", "grammar"),
    (r"^guide.*$", "json_schema"),
    (r"^sampling\.(stop|logit_bias).*$", r"\1"),
    (r"^sampling\.repetition_penalty$", "repeat_penalty"),
    (r"^sampling\.max_tokens$", "n_predict"),
    (r"^sampling\.logprobs$", "n_probs"),
    (r"^sampling\.(.+)$", r"\1"),
)
_CONTENT_RULES = rules(
    (r"^inputs\[(\d+)\](?:\.token_ids(?:\.ids)?|\.text)?", r"content[\1]"),
    (r"^inputs$", "content"),
)

TEXT = spelling(rules((r"^text$", "content")))
"""The spelling of requests for tokens."""

IDS = spelling(rules((r"^ids", "tokens")))
"""The spelling of requests for texts of tokens."""


def completion_spelling(*, many: bool) -> Spelling:
    """The spelling of a completion in llama.cpp's form: with a list of prompts, or with one."""
    return spelling(_COMPLETION_RULES, "prompt", None if many else _only)


def content_spelling(*, many: bool) -> Spelling:
    """The spelling of a request for embeddings of `content`."""
    return spelling(_CONTENT_RULES, "content", None if many else _only)


def _only(param: str) -> str:
    """There is no list in the request, so none is named."""
    return param.replace("[0]", "", 1) if param.startswith(("prompt[0]", "content[0]")) else param
