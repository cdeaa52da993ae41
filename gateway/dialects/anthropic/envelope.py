"""Problems and headers as Anthropic's SDKs read them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from gateway.answers import JSON
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.spelling import message_of

PATH = "/v1/messages"

OVERLOADED = 529

_STATUSES: Mapping[str, int] = {"QUEUE_FULL": OVERLOADED}
"""Reasons that have a status of their own here."""

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
"""`type` of a status; of others it is the caller's fault below 500, and the server's from there."""


class AnthropicDialect:
    """The edge's view of the dialect."""

    name = "anthropic"

    def owns(self, path: str) -> bool:
        """Tells whether a path is under `/v1/messages`."""
        return path == PATH or path.startswith(f"{PATH}/")

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"type": "error", "error": {type, message}, "request_id"}`."""
        body = orjson.dumps(error_body(problem, context.request_id))
        return Refusal(status_of(problem), [JSON, *problem.headers()], body)

    def headers(self, context: RequestContext) -> Headers:
        """Renders the request's ID where the SDKs look for it, and what is left of tokens."""
        headers = [(b"request-id", context.request_id.encode("ascii"))]
        if context.tokens is not None:
            headers += _allowance(context.tokens, b"tokens")
        return headers

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `anthropic-ratelimit-requests-*`."""
        return _allowance(allowance, b"requests")


def _allowance(allowance: Allowance, of: bytes) -> Headers:
    """Renders what is left of something; the time is that of the clock."""
    reset = datetime.now(UTC) + timedelta(seconds=allowance.reset_s)
    family = b"anthropic-ratelimit-%s-" % of
    return [
        (family + b"limit", b"%d" % allowance.limit),
        (family + b"remaining", b"%d" % allowance.remaining),
        (family + b"reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")),
    ]


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """Makes the body of an error, in answers and in streams."""
    status = status_of(problem)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message_of(problem)},
        "request_id": request_id,
    }


def status_of(problem: Problem) -> int:
    """The HTTP status."""
    return _STATUSES.get(problem.reason, problem.status)
