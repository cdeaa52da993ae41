"""Errors of Gel's dialect: one table, in JSON or in plain text."""

from __future__ import annotations

import json
import time

import pytest

from gateway.context import RequestContext
from gateway.dialects.gel.envelope import WORDS, GelDialect
from gateway.errors import KINDS, Problem
from gateway.rate_limits import Allowance

CONTRACT = {
    # reason: status, type; no type is plain text
    "INVALID_ARGUMENT": (400, "BadRequestError"),
    "MISSING_FIELD": (400, "BadRequestError"),
    "UNSUPPORTED_PARAMETER": (400, "BadRequestError"),
    "CONTEXT_LENGTH_EXCEEDED": (400, "BadRequestError"),
    "MISSING_CREDENTIALS": (401, None),
    "INVALID_CREDENTIALS": (401, None),
    "PERMISSION_DENIED": (403, None),
    "MODEL_NOT_FOUND": (400, "BadRequestError"),
    "NOT_FOUND": (404, None),
    "ALREADY_EXISTS": (400, "BadRequestError"),
    "CONFLICT": (400, "BadRequestError"),
    "FAILED_PRECONDITION": (400, "BadRequestError"),
    "RATE_LIMITED": (429, "AIProviderError"),
    "QUEUE_FULL": (503, "AIProviderError"),
    "MODEL_NOT_READY": (503, "AIProviderError"),
    "UNAVAILABLE": (503, "AIProviderError"),
    "DEADLINE_EXCEEDED": (504, "AIProviderError"),
    "UNIMPLEMENTED": (501, "AIProviderError"),
    "INTERNAL": (500, "InternalError"),
    "METHOD_NOT_ALLOWED": (405, None),
    "UNKNOWN_URL": (404, None),
    "BODY_TOO_LARGE": (413, "BadRequestError"),
    "MALFORMED_BODY": (400, "BadRequestError"),
    "NOT_JSON": (400, None),
}


def context(**headers: str) -> RequestContext:
    return RequestContext("req_1", time.perf_counter(), headers)


def test_the_table_is_complete() -> None:
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("reason", WORDS)
def test_every_reason(reason: str) -> None:
    status, headers, body = GelDialect().refusal(Problem(reason, "what it is"), context())
    assert (status, WORDS[reason][1]) == CONTRACT.get(reason, WORDS[reason])
    named = dict(headers)
    assert named[b"connection"] == b"close"
    if WORDS[reason][1] is None:
        assert named[b"content-type"] == b"text/plain; charset=utf-8"
        assert body
    else:
        assert named[b"content-type"] == b"application/json"
        assert list(json.loads(body).items()) == [
            ("message", "what it is"),
            ("type", WORDS[reason][1]),
        ]
    assert (b"retry-after" in named) == (status in (429, 503))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("UNKNOWN_URL", b"Unknown path"),
        ("METHOD_NOT_ALLOWED", b"Invalid request method"),
        ("NOT_JSON", b"Expected application/json input"),
    ],
)
def test_gels_own_words(reason: str, text: bytes) -> None:
    assert GelDialect().refusal(Problem(reason, "other"), context()).body == text


@pytest.mark.parametrize("reason", ["MISSING_CREDENTIALS", "INVALID_CREDENTIALS"])
def test_only_who_sent_nothing_is_challenged(reason: str) -> None:
    problem = Problem(reason, "x")
    challenge = (b"www-authenticate", b'Basic realm="edgedb", Bearer')
    assert challenge in GelDialect().refusal(problem, context()).headers
    refusal = GelDialect().refusal(problem, context(authorization="Bearer x"))
    assert b"www-authenticate" not in dict(refusal.headers)


def test_limits_are_velesios() -> None:
    headers = dict(GelDialect().allowance_headers(Allowance(60, 45, 30.0)))
    assert headers[b"x-ratelimit-limit"] == b"60"
    assert headers[b"x-ratelimit-remaining"] == b"45"
    assert abs(int(headers[b"x-ratelimit-reset"]) - time.time() - 30) < 5


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("/branch/main/ai/rag", True),
        ("/branch/a/b/ai/x", True),
        ("/db/x/ext/ai/embeddings", True),
        ("/branch/main/ai", True),
        ("/branch//ai/rag", True),
        ("/auth/token", True),
        ("/auth/token/x", False),
        ("/branch/main", False),
        ("/branch/main/edgeql", False),
        ("/branch/main/aix", False),
        ("/v1/branch/main/ai/rag", False),
        ("/", False),
    ],
)
def test_its_paths(path: str, owned: bool) -> None:
    assert GelDialect().owns(path) is owned
