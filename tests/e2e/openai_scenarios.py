"""Names of the scenarios in `openai_session`, which this environment can't import."""

PYTHON_SCENARIOS = [
    "models",
    "chat",
    "stream",
    "reuse",
    "stream_helper",
    "raw_stream",
    "completions",
    "errors",
    "logprobs",
    "many",
    "stop",
    "tools",
    "parse",
    "json_mode",
    "required",
    "strict_tools",
    "refused_schema",
    "disconnect",
]
