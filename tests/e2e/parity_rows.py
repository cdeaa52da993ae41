"""What is asked both ways, over gRPC and REST: bodies as REST takes them."""

from __future__ import annotations

from typing import Any

MODEL = "penstock-starter"
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
STORY = {"messages": [{"role": "user", "content": "Tell me a story"}]}


def schema_form(schema: dict[str, Any], strict: bool = False) -> dict[str, Any]:
    inner = {"name": "form", "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": inner}


COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": what, "parameters": CITY}}
    for name, what in (
        ("get_weather", "Gets the weather of a city."),
        ("get_time", "Gets the time in a city."),
    )
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
FORCED = WEATHER | {"tools": TOOLS, "tool_choice": NAMED, "max_tokens": 60}

CASES: list[dict[str, Any]] = [
    HELLO | {"temperature": 0},
    STORY | {"temperature": 0, "max_tokens": 7},
    STORY | {"temperature": 1, "seed": 11, "max_tokens": 16},
    STORY | {"temperature": 1, "seed": 5, "n": 2, "max_tokens": 8},
    STORY | {"temperature": 0, "stop": [" a"]},
    STORY | {"temperature": 0, "frequency_penalty": 1.5, "presence_penalty": 0.5, "max_tokens": 12},
    STORY | {"temperature": 1, "seed": 2, "response_format": schema_form(COLOUR, strict=True)},
    STORY | {"max_tokens": 9, "seed": 2, "response_format": {"type": "json_object"}},
    STORY | {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.01, "seed": 1},
    {
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "temperature": 0,
    },
    FORCED | {"temperature": 0},
    FORCED | {"temperature": 1, "seed": 4, "n": 2, "tool_choice": "required"},
    FORCED | {"temperature": 0, "tool_choice": "none", "max_tokens": 8},
    STORY | {"temperature": 0, "max_tokens": 6, "logprobs": True},
    STORY
    | {"temperature": 1, "seed": 9, "n": 2, "max_tokens": 6, "logprobs": True}
    | {"top_logprobs": 3},
]

TEXTS: list[dict[str, Any]] = [
    {"prompt": "Once upon", "temperature": 0, "max_tokens": 8},
    {"prompt": ["Once upon", "The capital"], "temperature": 1, "seed": 3, "n": 2, "max_tokens": 5},
    {"prompt": [72, 101, 108], "temperature": 0, "max_tokens": 5},
    {"prompt": "Once upon", "temperature": 0, "echo": True, "max_tokens": 4},
    {"prompt": "Once upon", "temperature": 0, "logprobs": 2, "max_tokens": 4},
    {"prompt": "Once upon", "temperature": 0, "stop": ["e"], "max_tokens": 30},
]

ERRORS: list[tuple[dict[str, Any], str, str, int, str, str]] = [
    (HELLO | {"model": "nope"}, "MODEL_NOT_FOUND", "model", 404, "model_not_found", "model"),
    (
        {"messages": [{"role": "user", "content": "x " * 30000}]},
        *("CONTEXT_LENGTH_EXCEEDED", "messages", 400, "context_length_exceeded", "messages"),
    ),
    (
        HELLO | {"temperature": 2.5},
        *("INVALID_ARGUMENT", "sampling.temperature"),
        *(400, "decimal_above_max_value", "temperature"),
    ),
    (
        HELLO | {"logit_bias": {"999999": 1}},
        *("INVALID_ARGUMENT", "sampling.logit_bias", 400, "invalid_value", "logit_bias"),
    ),
    (
        HELLO | {"response_format": schema_form({"not": {}})},
        *("INVALID_ARGUMENT", "guide.json_schema.not"),
        *(400, "invalid_value", "response_format.json_schema.schema.not"),
    ),
    (
        HELLO | {"response_format": schema_form({"type": "object"}), "ignore_eos": True},
        *("INVALID_ARGUMENT", "sampling.ignore_eos", 400, "invalid_value", "ignore_eos"),
    ),
    (
        FORCED | {"tool_choice": {"type": "function", "function": {"name": "get_rain"}}},
        *("INVALID_ARGUMENT", "tool_choice.name", 400, "invalid_value", "tool_choice"),
    ),
    (
        {"prompt": "x", "model": "nope"},
        *("MODEL_NOT_FOUND", "model", 404, "model_not_found", "model"),
    ),
    (
        {"prompt": "x " * 30000},
        *("CONTEXT_LENGTH_EXCEEDED", "prompts[0]", 400, "context_length_exceeded", "prompt"),
    ),
    (
        {"prompt": [1, 999999]},
        *("INVALID_ARGUMENT", "prompts[0].token_ids", 400, "invalid_value", "prompt"),
    ),
    (
        {"prompt": "x", "presence_penalty": -3},
        *("INVALID_ARGUMENT", "sampling.presence_penalty"),
        *(400, "decimal_below_min_value", "presence_penalty"),
    ),
]
"""What is asked; the reason and the field that gRPC names; REST's status, code and param."""
