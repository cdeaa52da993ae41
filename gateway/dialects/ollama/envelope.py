"""Problems as Ollama's clients read them."""

import orjson

from gateway.answers import JSON
from gateway.context import RequestContext
from gateway.dialects.dialect import Headers, Refusal, plain_allowance
from gateway.errors import Problem
from gateway.rate_limits import Allowance
from gateway.spelling import message_of

PREFIX = "/api"
BARE = ("/chat", "/generate", "/embed", "/tags")
"""Paths that a proxy may have stripped the prefix from."""


class OllamaDialect:
    """The edge's view of the dialect. What others have under `/api` is theirs: ask them first."""

    name = "ollama"

    def owns(self, path: str) -> bool:
        """Tells whether a path is under `/api`, or one of the few that are known without it."""
        return path in BARE or path == PREFIX or path.startswith(f"{PREFIX}/")

    def refusal(self, problem: Problem, context: RequestContext) -> Refusal:
        """Renders `{"error"}`."""
        body = orjson.dumps(error_body(problem))
        return Refusal(problem.status, [JSON, *problem.headers()], body)

    def headers(self, context: RequestContext) -> Headers:
        """None beyond those of every answer."""
        return []

    def allowance_headers(self, allowance: Allowance) -> Headers:
        """Renders `x-ratelimit-*`."""
        return plain_allowance(allowance)


def error_body(problem: Problem) -> dict[str, str]:
    """Makes the body of an error, in answers and in streams."""
    return {"error": message_of(problem)}
