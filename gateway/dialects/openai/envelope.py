"""Problems, headers and limits as OpenAI's SDKs read them."""

import time
from collections.abc import Mapping

import orjson

from gateway.answers import JSON
from gateway.context import RequestContext, printable
from gateway.dialects.dialect import Headers, Refusal
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.sse import frame

_REQUEST = "invalid_request_error"
_SERVER = "server_error"

WORDS: Mapping[str, tuple[str, str | None]] = {
    "UNSPECIFIED": (_SERVER, None),
    "INVALID_ARGUMENT": (_REQUEST, "invalid_value"),
    "MISSING_FIELD": (_REQUEST, "missing_required_parameter"),
    "UNSUPPORTED_PARAMETER": (_REQUEST, "unsupported_parameter"),
    "CONTEXT_LENGTH_EXCEEDED": (_REQUEST, "context_length_exceeded"),
    "MISSING_CREDENTIALS": (_REQUEST, None),
    "INVALID_CREDENTIALS": (_REQUEST, "invalid_api_key"),
    "PERMISSION_DENIED": ("permission_error", "insufficient_permissions"),
    "MODEL_NOT_FOUND": (_REQUEST, "model_not_found"),
    "NOT_FOUND": (_REQUEST, None),
    "ALREADY_EXISTS": (_REQUEST, "conflict"),
    "CONFLICT": (_REQUEST, "conflict"),
    "FAILED_PRECONDITION": (_REQUEST, None),
    "MODEL_NOT_READY": (_SERVER, "service_unavailable"),
    "RATE_LIMITED": ("requests", "rate_limit_exceeded"),
    "QUEUE_FULL": (_SERVER, "queue_full"),
    "UNAVAILABLE": (_SERVER, "service_unavailable"),
    "DEADLINE_EXCEEDED": (_SERVER, "timeout"),
    "CANCELLED": (_SERVER, "service_unavailable"),
    "UNIMPLEMENTED": (_REQUEST, "unsupported"),
    "INTERNAL": (_SERVER, None),
    "SLOW_READER": (_SERVER, "slow_reader"),
    "MESSAGE_TOO_LARGE": (_REQUEST, None),
    "OUT_OF_RANGE": (_REQUEST, "invalid_value"),
    "STORAGE_FULL": (_SERVER, "storage_full"),
    "METHOD_NOT_ALLOWED": (_REQUEST, "method_not_supported"),
    "UNKNOWN_URL": (_REQUEST, "unknown_url"),
    "BODY_TOO_LARGE": (_REQUEST, None),
    "BODY_TIMEOUT": (_REQUEST, "timeout"),
    "MALFORMED_BODY": (_REQUEST, None),
    "NOT_JSON": (_REQUEST, None),
    "UNKNOWN_SCRIPT": (_REQUEST, None),
}
"""`type` and `code` of every reason."""


_OF_TOKENS = frozenset({"tokens", "day", "month"})
"""Limits that are counted in tokens."""


class OpenAIDialect:
    """The edge's view of the dialect. It answers for paths that are nobody's, too."""

    name = "openai"

    def owns(self, path: str) -> bool:
        """Tells whether a path is under `/v1`, or Cohere's second rerank."""
        return path == "/v1" or path.startswith("/v1/") or path == "/v2/rerank"

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders a problem as the answer to a request."""
        return Refusal(problem.status, [JSON, *problem.headers()], self.envelope(problem))

    def envelope(self, problem: Problem) -> bytes:
        """Renders `{"error": {message, type, param, code}}`."""
        return orjson.dumps(error_body(problem))

    def headers(self, context: RequestContext) -> Headers:
        """Renders processing time, version and organization."""
        spent_ms = round((time.perf_counter() - context.started) * 1000)
        organization = context.headers.get("openai-organization", "")
        if not organization or not printable(organization):
            organization = "penstock"
        headers = [
            (b"openai-processing-ms", b"%d" % spent_ms),
            (b"openai-version", b"2020-10-01"),
            (b"openai-organization", organization.encode("ascii")),
        ]
        if context.tokens is not None:
            headers += _allowance(context.tokens, b"tokens")
        return headers

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*-requests`."""
        return _allowance(allowance, b"requests")


def error_body(problem: Problem) -> dict[str, dict[str, str | None]]:
    """Makes the body of an error, in answers and in streams."""
    type_, code = WORDS[problem.reason]
    if problem.reason == "RATE_LIMITED" and problem.metadata.get("limit") in (
        "tokens",
        "day",
        "month",
    ):
        type_ = "tokens"
    return {
        "error": {
            "message": problem.message,
            "type": type_,
            "param": problem.param,
            "code": problem.code or code,
        }
    }


def error_frame(problem: Problem) -> bytes:
    """Makes the last frame of a stream that fails."""
    return frame(error_body(problem))


def _allowance(allowance: Allowance, of: bytes) -> Headers:
    return [
        (b"x-ratelimit-limit-" + of, b"%d" % allowance.limit),
        (b"x-ratelimit-remaining-" + of, b"%d" % allowance.remaining),
        (b"x-ratelimit-reset-" + of, _duration(allowance.reset_s).encode("ascii")),
    ]


def _duration(seconds: float) -> str:
    """Writes a time as Go does: 6m0s, 1.5s, 20ms."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
