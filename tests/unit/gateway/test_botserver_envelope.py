"""Problems as botserver's clients read them, its credentials, and who owns which path."""

from __future__ import annotations

import json
import time

import pytest

from gateway.api_keys import key_of
from gateway.context import RequestContext
from gateway.dialects.botserver.envelope import WORDS, BotserverDialect
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.velesio.envelope import VelesioDialect
from gateway.errors import KINDS, Problem
from gateway.rate_limits import Allowance

CONTEXT = RequestContext("req_1", 0.0, {})
CONTRACT = {
    "INVALID_ARGUMENT": (400, "bad_request"),
    "MISSING_FIELD": (400, "bad_request"),
    "UNSUPPORTED_PARAMETER": (400, "bad_request"),
    "CONTEXT_LENGTH_EXCEEDED": (400, "bad_request"),
    "OUT_OF_RANGE": (400, "bad_request"),
    "MISSING_CREDENTIALS": (401, "unauthorized"),
    "INVALID_CREDENTIALS": (401, "invalid_token"),
    "PERMISSION_DENIED": (403, "forbidden"),
    "MODEL_NOT_FOUND": (404, "not_found"),
    "NOT_FOUND": (404, "not_found"),
    "ALREADY_EXISTS": (409, "conflict"),
    "CONFLICT": (409, "conflict"),
    "FAILED_PRECONDITION": (400, "bad_request"),
    "RATE_LIMITED": (429, "rate_limited"),
    "QUEUE_FULL": (503, "service_unavailable"),
    "UNAVAILABLE": (503, "service_unavailable"),
    "DEADLINE_EXCEEDED": (504, "timeout"),
    "UNIMPLEMENTED": (501, "bad_request"),
    "INTERNAL": (500, "internal_error"),
    "UNSPECIFIED": (500, "internal_error"),
    "METHOD_NOT_ALLOWED": (405, "method_not_allowed"),
    "UNKNOWN_URL": (404, "not_found"),
    "BODY_TOO_LARGE": (413, "payload_too_large"),
    "MALFORMED_BODY": (400, "bad_request"),
}


def test_the_table_is_complete() -> None:
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("reason", KINDS)
def test_refusals(reason: str) -> None:
    refusal = BotserverDialect().refusal(Problem(reason, "why", allow="GET"), CONTEXT)
    assert (refusal.status, WORDS[reason]) == CONTRACT.get(
        reason, (KINDS[reason].status, WORDS[reason])
    )
    headers = dict(refusal.headers)
    assert headers[b"content-type"] == b"application/json"
    assert (headers.get(b"www-authenticate") == b"Bearer") is (refusal.status == 401)
    assert (b"retry-after" in headers) is (refusal.status in (429, 503))
    assert headers[b"allow"] == b"GET"
    assert json.loads(refusal.body) == {"error": WORDS[reason], "message": "why"}


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        ("Invalid 'epochs': too many.", "epochs", "Invalid 'epochs': too many."),
        ("Too many.", "epochs", "Too many. The field at fault is 'epochs'."),
        ("Too many subepochs.", "epochs", "Too many subepochs. The field at fault is 'epochs'."),
        ("Too many.", None, "Too many."),
        ("Wrong.", "stop[1]", "Wrong. The field at fault is 'stop[1]'."),
        ("Wrong: stop[1].", "stop[1]", "Wrong: stop[1]."),
    ],
)
def test_the_message_names_the_field(message: str, param: str | None, said: str) -> None:
    refusal = BotserverDialect().refusal(Problem("INVALID_ARGUMENT", message, param), CONTEXT)
    assert json.loads(refusal.body)["message"] == said


@pytest.mark.parametrize(
    ("headers", "key", "word"),
    [
        ({}, None, "invalid_token"),
        ({"authorization": "Bearer a"}, None, "invalid_token"),
        ({"x-api-key": "k"}, "k", "invalid_api_key"),
        ({"x-api-key": " k "}, "k", "invalid_api_key"),
        ({"x-api-key": "  "}, None, "invalid_token"),
        ({"authorization": "bearer a", "x-api-key": "k"}, None, "invalid_token"),
        ({"authorization": "BEARER", "x-api-key": "k"}, None, "invalid_token"),
        ({"authorization": "Basic YTpi", "x-api-key": "k"}, "k", "invalid_api_key"),
    ],
)
def test_which_credential_was_wrong(headers: dict[str, str], key: str | None, word: str) -> None:
    context = RequestContext("req_1", 0.0, headers)
    assert key_of(context) == key
    refusal = BotserverDialect().refusal(Problem("INVALID_CREDENTIALS", "no"), context)
    assert json.loads(refusal.body)["error"] == word


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("/api/v1/ai", True),
        ("/api/v1/ai/", True),
        ("/api/v1/ai/models", True),
        ("/api/v1/ai/anything/at/all", True),
        ("/api/v1/aim", False),
        ("/api/v1", False),
        ("/api/sd-models", False),
        ("/v1/api/v1/ai", False),
        ("/", False),
    ],
)
def test_paths(path: str, owned: bool) -> None:
    assert BotserverDialect().owns(path) is owned
    if owned:
        assert not OpenAIDialect().owns(path)
        assert not VelesioDialect().owns(path)


def test_allowance() -> None:
    before = time.time()
    headers = dict(BotserverDialect().allowance_headers(Allowance(60, 45, 30.0)))
    assert (headers[b"x-ratelimit-limit"], headers[b"x-ratelimit-remaining"]) == (b"60", b"45")
    assert before + 29 <= int(headers[b"x-ratelimit-reset"]) <= time.time() + 31
