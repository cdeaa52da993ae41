"""Names of the scenarios in `openai_session`, which this environment can't import."""

PYTHON_SCENARIOS = [
    "models",
    "chat",
    "stream",
    "stream_helper",
    "raw_stream",
    "completions",
    "errors",
    "logprobs",
    "many",
    "stop",
    "tools",
    "disconnect",
]
