"""Problems and headers as botserver's clients read them."""

from collections.abc import Mapping

import orjson

from gateway.answers import JSON
from gateway.api_keys import key_of
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal, plain_allowance
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.spelling import message_of

PREFIX = "/api/v1/ai"

_REQUEST = "bad_request"
_AWAY = "service_unavailable"
_INTERNAL = "internal_error"
_LARGE = "payload_too_large"

WORDS: Mapping[str, str] = {
    "UNSPECIFIED": _INTERNAL,
    "INVALID_ARGUMENT": _REQUEST,
    "MISSING_FIELD": _REQUEST,
    "UNSUPPORTED_PARAMETER": _REQUEST,
    "CONTEXT_LENGTH_EXCEEDED": _REQUEST,
    "MISSING_CREDENTIALS": "unauthorized",
    "INVALID_CREDENTIALS": "invalid_token",
    "PERMISSION_DENIED": "forbidden",
    "MODEL_NOT_FOUND": "not_found",
    "NOT_FOUND": "not_found",
    "ALREADY_EXISTS": "conflict",
    "CONFLICT": "conflict",
    "FAILED_PRECONDITION": _REQUEST,
    "MODEL_NOT_READY": _AWAY,
    "RATE_LIMITED": "rate_limited",
    "QUEUE_FULL": _AWAY,
    "UNAVAILABLE": _AWAY,
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": _AWAY,
    "UNIMPLEMENTED": _REQUEST,
    "INTERNAL": _INTERNAL,
    "SLOW_READER": _AWAY,
    "MESSAGE_TOO_LARGE": _LARGE,
    "OUT_OF_RANGE": _REQUEST,
    "STORAGE_FULL": _INTERNAL,
    "METHOD_NOT_ALLOWED": "method_not_allowed",
    "UNKNOWN_URL": "not_found",
    "BODY_TOO_LARGE": _LARGE,
    "BODY_TIMEOUT": "timeout",
    "MALFORMED_BODY": _REQUEST,
    "NOT_JSON": _REQUEST,
    "UNKNOWN_SCRIPT": _REQUEST,
}
"""`error` of every reason."""

_WRONG_KEY = "invalid_api_key"
"""What a wrong credential is called that came as a key, and not as a token."""


class BotserverDialect:
    """The edge's view of the dialect."""

    name = "botserver"

    def owns(self, path: str) -> bool:
        """Tells whether a path is under `/api/v1/ai`."""
        return path == PREFIX or path.startswith(f"{PREFIX}/")

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"error", "message"}`."""
        by_key = problem.reason == "INVALID_CREDENTIALS" and key_of(context) is not None
        body = {
            "error": _WRONG_KEY if by_key else WORDS[problem.reason],
            "message": message_of(problem),
        }
        return Refusal(problem.status, [JSON, *problem.headers()], orjson.dumps(body))

    def headers(self, context: RequestContext) -> Headers:
        """None beyond those of every answer."""
        return []

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*`."""
        return plain_allowance(allowance)
