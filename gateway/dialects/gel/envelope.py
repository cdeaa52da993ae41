"""Problems and headers as Gel's clients read them."""

import re
from collections.abc import Mapping

import orjson

from gateway.answers import JSON, TEXT
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal, plain_allowance
from gateway.errors import Problem
from gateway.rate_limits import Allowance

CLOSE = (b"connection", b"close")
"""Gel closes the connection after every error and every stream."""

_REQUEST = "BadRequestError"
_PROVIDER = "AIProviderError"
_INTERNAL = "InternalError"
_TEXT = None

WORDS: Mapping[str, tuple[int, str | None]] = {
    "UNSPECIFIED": (500, _INTERNAL),
    "INVALID_ARGUMENT": (400, _REQUEST),
    "MISSING_FIELD": (400, _REQUEST),
    "UNSUPPORTED_PARAMETER": (400, _REQUEST),
    "CONTEXT_LENGTH_EXCEEDED": (400, _REQUEST),
    "MISSING_CREDENTIALS": (401, _TEXT),
    "INVALID_CREDENTIALS": (401, _TEXT),
    "PERMISSION_DENIED": (403, _TEXT),
    "MODEL_NOT_FOUND": (400, _REQUEST),
    "NOT_FOUND": (404, _TEXT),
    "ALREADY_EXISTS": (400, _REQUEST),
    "CONFLICT": (400, _REQUEST),
    "FAILED_PRECONDITION": (400, _REQUEST),
    "MODEL_NOT_READY": (503, _PROVIDER),
    "RATE_LIMITED": (429, _PROVIDER),
    "QUEUE_FULL": (503, _PROVIDER),
    "UNAVAILABLE": (503, _PROVIDER),
    "DEADLINE_EXCEEDED": (504, _PROVIDER),
    "CANCELLED": (503, _PROVIDER),
    "UNIMPLEMENTED": (501, _PROVIDER),
    "INTERNAL": (500, _INTERNAL),
    "SLOW_READER": (503, _PROVIDER),
    "MESSAGE_TOO_LARGE": (413, _REQUEST),
    "OUT_OF_RANGE": (400, _REQUEST),
    "STORAGE_FULL": (507, _PROVIDER),
    "METHOD_NOT_ALLOWED": (405, _TEXT),
    "UNKNOWN_URL": (404, _TEXT),
    "BODY_TOO_LARGE": (413, _REQUEST),
    "BODY_TIMEOUT": (408, _REQUEST),
    "MALFORMED_BODY": (400, _REQUEST),
    "NOT_JSON": (400, _TEXT),
    "UNKNOWN_SCRIPT": (422, _REQUEST),
}
"""Status and `type` of every reason; without a type the answer is plain text."""

_PHRASES: Mapping[str, str] = {
    "UNKNOWN_URL": "Unknown path",
    "METHOD_NOT_ALLOWED": "Invalid request method",
    "NOT_JSON": "Expected application/json input",
}
"""What Gel itself says; programs compare it."""

_OWN = re.compile(r"/(?:branch|db)/.*/ai(?:/.*)?|/auth/token", re.DOTALL)


class GelDialect:
    """The edge's view of the dialect."""

    name = "gel"

    def owns(self, path: str) -> bool:
        """Tells whether a path is that of a branch's AI, or where tokens are got."""
        return _OWN.fullmatch(path) is not None

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"message", "type"}`, or plain text for what isn't the AI's matter."""
        status, type_ = WORDS[problem.reason]
        headers = [item for item in problem.headers() if item[0] != b"www-authenticate"]
        headers.append(CLOSE)
        if status == 401 and "authorization" not in context.headers:
            headers.append((b"www-authenticate", b'Basic realm="edgedb", Bearer'))
        if type_ is None:
            text = _PHRASES.get(problem.reason, problem.message)
            return Refusal(status, [TEXT, *headers], text.encode("utf-8", "replace"))
        return Refusal(status, [JSON, *headers], orjson.dumps(error_body(problem)))

    def headers(self, context: RequestContext) -> Headers:
        """None beyond those of every answer."""
        return []

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*`."""
        return plain_allowance(allowance)


def error_body(problem: Problem) -> dict[str, str]:
    """Makes the body of an error, in answers and in streams."""
    return {"message": problem.message, "type": WORDS[problem.reason][1] or _REQUEST}
