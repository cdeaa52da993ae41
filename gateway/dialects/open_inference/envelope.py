"""Problems as clients of the Open Inference Protocol read them."""

import orjson

from gateway.answers import JSON
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal, plain_allowance
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.spelling import message_of

PREFIX = "/v2"
_OTHERS = ("/v2/rerank",)
"""Paths under the prefix that are another dialect's."""


class OpenInferenceDialect:
    """The edge's view of the dialect."""

    name = "open_inference"

    def owns(self, path: str) -> bool:
        """Tells whether a path is under `/v2`, and nobody else's."""
        return (path == PREFIX or path.startswith(f"{PREFIX}/")) and path not in _OTHERS

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"error"}`."""
        body = orjson.dumps({"error": message_of(problem)})
        return Refusal(problem.status, [JSON, *problem.headers()], body)

    def headers(self, context: RequestContext) -> Headers:
        """None beyond those of every answer."""
        return []

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*`."""
        return plain_allowance(allowance)
