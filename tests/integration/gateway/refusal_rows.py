"""What each dialect says of causes that lie behind the edge."""

from collections.abc import Mapping
from typing import Any

from tests.integration.gateway.refusals import TEXT

REQUEST, SERVER = "invalid_request_error", "server_error"
BAD = "BadRequestError"
AWAY = {"openai": SERVER, "gel": "AIProviderError", "botserver": "service_unavailable"}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "no role": {
        "status": 403,
        "openai": "permission_error",
        "anthropic": "permission_error",
        "velesio": "forbidden",
        "gel": TEXT,
        "botserver": "forbidden",
        "code": "insufficient_permissions",
    },
    "unknown model": {
        "status": {"gel": 400, None: 404},
        "openai": REQUEST,
        "anthropic": "not_found_error",
        "velesio": "model_not_found",
        "gel": BAD,
        "botserver": "not_found",
        "code": "model_not_found",
    },
    "model that loads": {
        "status": 503,
        "anthropic": "api_error",
        "velesio": "internal_error",
        **AWAY,
        "code": "service_unavailable",
    },
    "too long": {
        "status": 400,
        "openai": REQUEST,
        "anthropic": REQUEST,
        "velesio": "invalid_request",
        "gel": BAD,
        "botserver": "bad_request",
        "code": "context_length_exceeded",
    },
    "queue full": {
        "status": {"anthropic": 529, None: 503},
        "anthropic": "overloaded_error",
        "velesio": "queue_full",
        **AWAY,
        "code": "queue_full",
    },
    "out of time": {
        "status": 504,
        "openai": SERVER,
        "anthropic": "timeout_error",
        "velesio": "internal_error",
        "gel": "AIProviderError",
        "botserver": "timeout",
        "code": "timeout",
    },
    "killed": {
        "status": 503,
        "anthropic": "api_error",
        "velesio": "internal_error",
        **AWAY,
        "code": "service_unavailable",
    },
    "disk full": {
        "status": 507,
        "openai": SERVER,
        "anthropic": "api_error",
        "velesio": "internal_error",
        "gel": "AIProviderError",
        "botserver": "internal_error",
        "code": "storage_full",
    },
    "not done there": {
        "status": 501,
        "openai": REQUEST,
        "anthropic": "api_error",
        "velesio": "invalid_request",
        "gel": "AIProviderError",
        "botserver": "bad_request",
        "code": "unsupported",
    },
    "nonsense": {
        "status": 500,
        "openai": SERVER,
        "anthropic": "api_error",
        "velesio": "internal_error",
        "gel": "InternalError",
        "botserver": "internal_error",
        "code": None,
    },
    "not there": {
        "status": 404,
        "openai": REQUEST,
        "gel": TEXT,
        "botserver": "not_found",
        "code": None,
    },
    "conflict": {
        "status": 409,
        "openai": REQUEST,
        "velesio": "conflict",
        "botserver": "conflict",
        "code": "conflict",
    },
    "not now": {
        "status": 400,
        "openai": REQUEST,
        "botserver": "bad_request",
        "code": None,
    },
}
"""What each dialect says: the word of its errors, and for OpenAI's the code too. WebUI's are
Velesio's; all that Ollama's have is a text."""
