"""Headers that every operation takes and every answer has, for the OpenAPI document."""

from collections.abc import Mapping, Sequence
from typing import Any

_WHOLE = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 128},
        "description": "Names the request in answers, logs and the usage ledger. Printable ASCII; "
        "else, or without, one is made.",
    },
    "RequestTimeout": {
        "name": "X-Request-Timeout",
        "in": "header",
        "required": False,
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 999_999_999},
        "description": "Seconds that the caller waits, such as 2.5; at most what the server allows "
        "anyway. When they are over, the work ends and the answer is 504.",
    },
}
"""By their names among the components."""

_SHARED: Mapping[str, Mapping[str, Any]] = {
    "x-request-id": {"description": "ID of the request.", "schema": _TEXT}
}
_OF_FAILURES: Mapping[str, Mapping[str, Any]] = {
    "retry-after": {
        "description": "With 429 and 503: seconds to wait, at most 60.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 60},
    },
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": _WHOLE},
    "x-should-retry": {
        "description": "Whether the same request can succeed when it is sent again.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}


def _family(names: str, reset: str, *kinds: str) -> dict[str, Mapping[str, Any]]:
    """Headers of limits; in `names`, `{}` stands for `limit`, `remaining` and `reset`."""
    return {
        names.format(word, kind=kind): {
            "description": f"{said} {reset * (word == 'reset')}".strip()
        }
        | {"schema": _TEXT if word == "reset" else _WHOLE}
        for kind in kinds
        for word, said in (
            ("limit", f"Limit of {kind} a minute, where there is one."),
            ("remaining", f"What is left of the limit of {kind}."),
            ("reset", f"When all of the limit of {kind} is free again:"),
        )
    }


PLAIN = _family("x-ratelimit-{}", "seconds of Unix time.", "requests")
"""Headers of most dialects."""
OPENAI = {
    "openai-processing-ms": {"description": "Milliseconds spent here.", "schema": _WHOLE},
    "openai-version": {"description": "Version of the API.", "schema": _TEXT},
    "openai-organization": {"description": "As the request said.", "schema": _TEXT},
    **_family("x-ratelimit-{}-{kind}", "a span such as 6m0s.", "requests", "tokens"),
}
"""Headers of OpenAI's dialect."""
ANTHROPIC = {
    "request-id": {"description": "ID of the request.", "schema": _TEXT},
    **_family("anthropic-ratelimit-{kind}-{}", "a time of RFC 3339.", "requests", "tokens"),
}
"""Headers of Anthropic's dialect."""


def components() -> dict[str, Any]:
    """Makes what answers and operations refer to."""
    every = {**_SHARED, **_OF_FAILURES, **PLAIN, **OPENAI, **ANTHROPIC}
    return {"parameters": dict(PARAMETERS), "headers": every}


def parameters(*, is_open: bool) -> Sequence[Mapping[str, str]]:
    """Refers to the headers that an operation takes. Those that anybody may call run nothing."""
    names = ("RequestId",) if is_open else tuple(PARAMETERS)
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def headers(dialect: Mapping[str, Any], *, failed: bool) -> dict[str, Mapping[str, str]]:
    """Refers to the headers that an answer of a dialect has, or may have."""
    names = {**_SHARED, **(_OF_FAILURES if failed else {}), **dialect}
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
