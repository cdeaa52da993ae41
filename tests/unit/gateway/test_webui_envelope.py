"""Problems as Velesio's clients read them, and who owns which path."""

from __future__ import annotations

import json
import time

import pytest

from gateway.context import RequestContext
from gateway.dialects.gel.envelope import GelDialect
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.velesio.envelope import WORDS, VelesioDialect
from gateway.errors import KINDS, Problem
from gateway.rate_limits import Allowance

CONTEXT = RequestContext("req_1", 0.0, {})
CONTRACT = {
    "INVALID_ARGUMENT": (400, "invalid_request"),
    "MISSING_FIELD": (400, "invalid_request"),
    "UNSUPPORTED_PARAMETER": (400, "invalid_request"),
    "CONTEXT_LENGTH_EXCEEDED": (400, "invalid_request"),
    "MISSING_CREDENTIALS": (401, "unauthorized"),
    "INVALID_CREDENTIALS": (401, "unauthorized"),
    "PERMISSION_DENIED": (403, "forbidden"),
    "MODEL_NOT_FOUND": (404, "model_not_found"),
    "NOT_FOUND": (404, "not_found"),
    "ALREADY_EXISTS": (409, "conflict"),
    "CONFLICT": (409, "conflict"),
    "FAILED_PRECONDITION": (400, "invalid_request"),
    "RATE_LIMITED": (429, "rate_limit_exceeded"),
    "QUEUE_FULL": (503, "queue_full"),
    "UNAVAILABLE": (503, "internal_error"),
    "DEADLINE_EXCEEDED": (504, "internal_error"),
    "UNIMPLEMENTED": (501, "invalid_request"),
    "INTERNAL": (500, "internal_error"),
    "METHOD_NOT_ALLOWED": (405, "invalid_request"),
    "UNKNOWN_URL": (404, "not_found"),
    "BODY_TOO_LARGE": (413, "invalid_request"),
    "MALFORMED_BODY": (400, "invalid_request"),
    "UNKNOWN_SCRIPT": (422, "invalid_request"),
}


def test_the_table_is_complete() -> None:
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("reason", KINDS)
def test_refusals(reason: str) -> None:
    refusal = VelesioDialect().refusal(Problem(reason, "why"), CONTEXT)
    assert (refusal.status, WORDS[reason]) == CONTRACT.get(
        reason, (KINDS[reason].status, WORDS[reason])
    )
    headers = dict(refusal.headers)
    assert headers[b"content-type"] == b"application/json"
    assert (headers.get(b"www-authenticate") == b"Bearer") is (refusal.status == 401)
    assert (b"retry-after" in headers) is (refusal.status in (429, 503))
    expected = {"error": {"code": WORDS[reason], "message": "why", "details": ""}}
    assert json.loads(refusal.body) == expected


def test_details_name_the_field() -> None:
    refusal = VelesioDialect().refusal(Problem("MISSING_FIELD", "why", "init_images[2]"), CONTEXT)
    details = json.loads(refusal.body)["error"]["details"]
    assert details == "The field at fault is 'init_images[2]'."


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("/sdapi/v1/txt2img", True),
        ("/sdapi/anything", True),
        ("/sdapi", True),
        ("/generate-image", True),
        ("/api/sd-models", True),
        ("/internal/progress", True),
        ("/internal", False),
        ("/api/v1/ai/models", False),
        ("/generate-images", False),
        ("/sdapix/v1", False),
        ("/v1/models", False),
        ("/branch/main/ai/rag", False),
    ],
)
def test_paths(path: str, owned: bool) -> None:
    assert VelesioDialect().owns(path) is owned
    if owned:
        assert not OpenAIDialect().owns(path)
        assert not GelDialect().owns(path)


def test_allowance() -> None:
    before = time.time()
    headers = dict(VelesioDialect().allowance_headers(Allowance(60, 45, 30.0)))
    assert (headers[b"x-ratelimit-limit"], headers[b"x-ratelimit-remaining"]) == (b"60", b"45")
    assert before + 29 <= int(headers[b"x-ratelimit-reset"]) <= time.time() + 31
