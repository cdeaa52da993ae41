"""Problems and headers as Velesio's clients read them."""

from collections.abc import Mapping

import orjson

from gateway.answers import JSON
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal, plain_allowance
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.sse import frame

_REQUEST = "invalid_request"
_INTERNAL = "internal_error"

WORDS: Mapping[str, str] = {
    "UNSPECIFIED": _INTERNAL,
    "INVALID_ARGUMENT": _REQUEST,
    "MISSING_FIELD": _REQUEST,
    "UNSUPPORTED_PARAMETER": _REQUEST,
    "CONTEXT_LENGTH_EXCEEDED": _REQUEST,
    "MISSING_CREDENTIALS": "unauthorized",
    "INVALID_CREDENTIALS": "unauthorized",
    "PERMISSION_DENIED": "forbidden",
    "MODEL_NOT_FOUND": "model_not_found",
    "NOT_FOUND": "not_found",
    "ALREADY_EXISTS": "conflict",
    "CONFLICT": "conflict",
    "FAILED_PRECONDITION": _REQUEST,
    "MODEL_NOT_READY": _INTERNAL,
    "RATE_LIMITED": "rate_limit_exceeded",
    "QUEUE_FULL": "queue_full",
    "UNAVAILABLE": _INTERNAL,
    "DEADLINE_EXCEEDED": _INTERNAL,
    "CANCELLED": _INTERNAL,
    "UNIMPLEMENTED": _REQUEST,
    "INTERNAL": _INTERNAL,
    "SLOW_READER": _INTERNAL,
    "MESSAGE_TOO_LARGE": _REQUEST,
    "OUT_OF_RANGE": _REQUEST,
    "STORAGE_FULL": _INTERNAL,
    "METHOD_NOT_ALLOWED": _REQUEST,
    "UNKNOWN_URL": "not_found",
    "BODY_TOO_LARGE": _REQUEST,
    "BODY_TIMEOUT": _REQUEST,
    "MALFORMED_BODY": _REQUEST,
    "NOT_JSON": _REQUEST,
    "UNKNOWN_SCRIPT": _REQUEST,
}
"""`code` of every reason."""

_PATHS = frozenset(
    {
        *("/", "/health", "/models", "/queue/status", "/completion", "/chat/completions"),
        *("/template", "/apply-template", "/tokenize", "/detokenize", "/props", "/slots"),
        *("/embedding", "/embeddings", "/generate-image", "/api/sd-models", "/sdapi"),
        "/internal/progress",
    }
)


class VelesioDialect:
    """The edge's view of the dialect."""

    name = "velesio"

    def owns(self, path: str) -> bool:
        """Tells whether a path is one of those at the root, or of the images'."""
        return path in _PATHS or path.startswith("/sdapi/")

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"error": {code, message, details}}`."""
        body = orjson.dumps(error_body(problem))
        return Refusal(problem.status, [JSON, *problem.headers()], body)

    def headers(self, context: RequestContext) -> Headers:
        """None beyond those of every answer."""
        return []

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*`."""
        return plain_allowance(allowance)


def error_frame(problem: Problem) -> bytes:
    """Makes the last frame of a stream that fails."""
    return frame(error_body(problem))


def error_body(problem: Problem) -> dict[str, dict[str, str]]:
    """Makes the body of an error. `details` names the field at fault, where there is one."""
    details = f"The field at fault is '{problem.param}'." if problem.param else ""
    return {
        "error": {
            "code": WORDS[problem.reason],
            "message": problem.message,
            "details": details,
        }
    }
