"""The error table is complete, and statuses lose nothing on their way."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from penstock.errors.v1 import error_reason_pb2

from gateway.dialects.openai.envelope import WORDS, OpenAIDialect, error_frame
from gateway.errors import KINDS, Problem, from_rpc_error, from_status
from gateway.rate_limits import Allowance

REASONS = {
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118
}
OWN = {
    "METHOD_NOT_ALLOWED",
    "UNKNOWN_URL",
    "BODY_TOO_LARGE",
    "BODY_TIMEOUT",
    "MALFORMED_BODY",
    "NOT_JSON",
    "UNKNOWN_SCRIPT",
}

CONTRACT = {
    # reason: HTTP, type, code
    "INVALID_ARGUMENT": (400, "invalid_request_error", "invalid_value"),
    "MISSING_FIELD": (400, "invalid_request_error", "missing_required_parameter"),
    "UNSUPPORTED_PARAMETER": (400, "invalid_request_error", "unsupported_parameter"),
    "CONTEXT_LENGTH_EXCEEDED": (400, "invalid_request_error", "context_length_exceeded"),
    "MISSING_CREDENTIALS": (401, "invalid_request_error", None),
    "INVALID_CREDENTIALS": (401, "invalid_request_error", "invalid_api_key"),
    "PERMISSION_DENIED": (403, "permission_error", "insufficient_permissions"),
    "MODEL_NOT_FOUND": (404, "invalid_request_error", "model_not_found"),
    "NOT_FOUND": (404, "invalid_request_error", None),
    "ALREADY_EXISTS": (409, "invalid_request_error", "conflict"),
    "CONFLICT": (409, "invalid_request_error", "conflict"),
    "FAILED_PRECONDITION": (400, "invalid_request_error", None),
    "MODEL_NOT_READY": (503, "server_error", "service_unavailable"),
    "RATE_LIMITED": (429, "requests", "rate_limit_exceeded"),
    "QUEUE_FULL": (503, "server_error", "queue_full"),
    "UNAVAILABLE": (503, "server_error", "service_unavailable"),
    "DEADLINE_EXCEEDED": (504, "server_error", "timeout"),
    "UNIMPLEMENTED": (501, "invalid_request_error", "unsupported"),
    "INTERNAL": (500, "server_error", None),
    "MESSAGE_TOO_LARGE": (413, "invalid_request_error", None),
    "OUT_OF_RANGE": (400, "invalid_request_error", "invalid_value"),
    "STORAGE_FULL": (507, "server_error", "storage_full"),
    "METHOD_NOT_ALLOWED": (405, "invalid_request_error", "method_not_supported"),
    "UNKNOWN_URL": (404, "invalid_request_error", "unknown_url"),
    "BODY_TOO_LARGE": (413, "invalid_request_error", None),
    "MALFORMED_BODY": (400, "invalid_request_error", None),
    "NOT_JSON": (400, "invalid_request_error", None),
    "UNKNOWN_SCRIPT": (422, "invalid_request_error", None),
}


def status(code: int, message: str, *details: Any) -> status_pb2.Status:
    result = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        result.details.append(packed)
    return result


def test_tables_are_complete() -> None:
    assert set(KINDS) == REASONS | OWN
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("reason", CONTRACT)
def test_contract(reason: str) -> None:
    http, type_, code = CONTRACT[reason]
    problem = Problem(reason, "m", param="p")
    assert problem.status == http
    assert json.loads(OpenAIDialect().envelope(problem)) == {
        "error": {"message": "m", "type": type_, "param": "p", "code": code}
    }


@pytest.mark.parametrize("reason", sorted(REASONS - {"UNSPECIFIED"}))
def test_a_reason_survives(reason: str) -> None:
    info = error_details_pb2.ErrorInfo(
        reason=reason, domain="penstock", metadata={"param": "sampling.n", "x": "y"}
    )
    wait = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000))
    problem = from_status(status(code_pb2.INTERNAL, "said so", info, wait))
    assert problem.reason == reason
    assert problem.message == "said so"
    assert problem.param == "sampling.n"
    assert problem.retry_after_s == 0.25
    assert problem.metadata["x"] == "y"


def test_a_violation_names_the_field() -> None:
    info = error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="penstock")
    violation = error_details_pb2.BadRequest.FieldViolation(field="sampling.n", description="d")
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    assert from_status(status(code_pb2.INVALID_ARGUMENT, "m", info, bad)).param == "sampling.n"


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_a_foreign_status_has_a_problem_and_tells_nothing(code: grpc.StatusCode) -> None:
    error = grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="ipv4:10.0.0.1:50052 /etc/secret"
    )
    problem = from_rpc_error(error)
    assert problem.reason in KINDS
    assert "10.0.0.1" not in problem.message
    assert "secret" not in problem.message


def test_foreign_domains_are_not_believed() -> None:
    info = error_details_pb2.ErrorInfo(reason="MODEL_NOT_FOUND", domain="elsewhere")
    assert from_status(status(code_pb2.UNAVAILABLE, "secret", info)).reason == "UNAVAILABLE"


def test_a_rich_status_in_trailers() -> None:
    info = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="penstock")
    rich = status(code_pb2.RESOURCE_EXHAUSTED, "full", info)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", rich.SerializeToString()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), trailers)
    assert from_rpc_error(error).reason == "QUEUE_FULL"


def test_a_message_too_large() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details="Sent message larger than max (70000000 vs. 68157440)",
    )
    assert from_rpc_error(error).status == 413


@pytest.mark.parametrize(
    ("wait", "seconds", "milliseconds"),
    [
        (None, "1", "1000"),
        (0.02, "1", "20"),
        (1.5, "2", "1500"),
        (600.0, "60", "60000"),
        (-1, "1", "0"),
    ],
)
def test_waits(wait: float | None, seconds: str, milliseconds: str) -> None:
    headers = dict(Problem("QUEUE_FULL", "m", retry_after_s=wait).headers())
    assert headers[b"retry-after"] == seconds.encode()
    assert headers[b"retry-after-ms"] == milliseconds.encode()
    assert headers[b"x-should-retry"] == b"true"
    assert b"retry-after" not in dict(Problem("INTERNAL", "m", retry_after_s=wait).headers())


def test_a_model_that_failed_to_load_is_not_worth_a_retry() -> None:
    loading = Problem("MODEL_NOT_READY", "m", retry_after_s=2)
    assert dict(loading.headers())[b"x-should-retry"] == b"true"
    failed = Problem("MODEL_NOT_READY", "m")
    assert dict(failed.headers())[b"x-should-retry"] == b"false"


def test_other_headers() -> None:
    assert dict(Problem("CONFLICT", "m").headers())[b"x-should-retry"] == b"false"
    assert dict(Problem("MISSING_CREDENTIALS", "m").headers())[b"www-authenticate"] == b"Bearer"
    allow = Problem("METHOD_NOT_ALLOWED", "m", allow="GET, HEAD")
    assert dict(allow.headers())[b"allow"] == b"GET, HEAD"


def test_token_limits_have_their_own_type() -> None:
    problem = Problem("RATE_LIMITED", "m", metadata={"limit": "tokens"})
    assert json.loads(OpenAIDialect().envelope(problem))["error"]["type"] == "tokens"


def test_error_frame() -> None:
    expected = b'data: {"error":{"message":"m","type":"server_error","param":null,"code":null}}\n\n'
    assert error_frame(Problem("INTERNAL", "m")) == expected


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0ms"),
        (0.02, "20ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (61.25, "1m1.25s"),
    ],
)
def test_reset_is_a_go_duration(seconds: float, written: str) -> None:
    headers = dict(OpenAIDialect().allowance_headers(Allowance(60, 45, seconds)))
    assert headers[b"x-ratelimit-reset-requests"] == written.encode()
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"45"
