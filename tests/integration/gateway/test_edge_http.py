"""Whole requests through a live edge."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from tests.integration.gateway.conftest import Edge

CHAT = {"model": "words", "messages": [{"role": "user", "content": "once upon a time"}]}


async def test_chat(edge: Edge) -> None:
    answer = await edge.http.post(
        "/v1/chat/completions",
        json=CHAT,
        headers={"x-request-id": "mine-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert answer.headers["openai-organization"] == "penstock"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.json() == {
        "id": "chatcmpl-a",
        "object": "chat.completion",
        "created": 1702345678,
        "model": "words",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "once upon a time ",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    metadata = edge.backend.metadata[-1]
    assert metadata["authorization"] == "Bearer sk-test"
    assert metadata["x-request-id"] == "mine-1"
    trace_id, span_id = metadata["traceparent"].split("-")[1:3]
    assert trace_id == "a" * 32
    assert span_id != "b" * 16
    assert metadata["x-penstock-dialect"] == "openai"


async def test_completion(edge: Edge) -> None:
    answer = await edge.http.post("/v1/completions", json={"model": "words", "prompt": "a b"})
    body = answer.json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"text": "a b ", "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    assert edge.backend.requests[-1].sampling.max_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "status", "type_", "code", "param"),
    [
        ("MODEL_NOT_FOUND", 404, "invalid_request_error", "model_not_found", "top_k"),
        ("UNSUPPORTED_PARAMETER", 400, "invalid_request_error", "unsupported_parameter", "top_k"),
        (
            "CONTEXT_LENGTH_EXCEEDED",
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "top_k",
        ),
        ("QUEUE_FULL", 503, "server_error", "queue_full", "top_k"),
        ("INTERNAL", 500, "server_error", None, "top_k"),
    ],
)
async def test_admission_errors_are_real_statuses(
    edge: Edge, reason: str, status: int, type_: str, code: str, param: str, stream: bool
) -> None:
    body = CHAT | {"model": f"fails-{reason}", "stream": stream}
    answer = await edge.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    message = f"it is {reason} in top_k"
    assert answer.json() == {
        "error": {"message": message, "type": type_, "param": param, "code": code}
    }
    if reason == "QUEUE_FULL":
        assert answer.headers["retry-after"] == "60"
        assert answer.headers["retry-after-ms"] == "60000"


async def test_models(edge: Edge) -> None:
    listed = (await edge.http.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == ["org/words:v1", "words"]
    one = (await edge.http.get("/v1/models/org%2Fwords:v1")).json()
    assert one == {
        "id": "org/words:v1",
        "object": "model",
        "created": 1702345678,
        "owned_by": "penstock",
        "type": "chat",
        "status": "ready",
        "context_length": 512,
    }
    assert (await edge.http.get("/v1/models/org/words:v1")).json() == one
    assert (await edge.http.get("/v1/models/broken")).json()["status"] == "failed"
    missing = await edge.http.get("/v1/models/nope")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert missing.json()["error"]["param"] == "model"


async def test_delete_model(edge: Edge) -> None:
    deleted = await edge.http.delete("/v1/models/org%2Fwords:v1")
    assert deleted.json() == {"id": "org/words:v1", "object": "model", "deleted": True}
    assert (await edge.http.delete("/v1/models/org%2Fwords:v1")).status_code == 404
    forbidden = await edge.http.delete("/v1/models/forbidden")
    assert forbidden.status_code == 403
    assert forbidden.json()["error"]["type"] == "permission_error"
    assert (await edge.http.delete("/v1/models/words")).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/words"),
        ("DELETE", "/v1/models/words"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/openapi.json"),
    ],
)
@pytest.mark.parametrize("credential", [None, "Bearer wrong", "Basic abc", "Bearer", ""])
async def test_no_route_is_open(edge: Edge, method: str, path: str, credential: str | None) -> None:
    async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
        headers = {} if credential is None else {"authorization": credential}
        answer = await http.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    code = None if not credential else "invalid_api_key"
    assert answer.json()["error"]["code"] == code


async def test_bearer_in_any_case(edge: Edge) -> None:
    headers = {"authorization": "bEARER  sk-test"}
    assert (await edge.http.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_health_is_open(edge: Edge, method: str) -> None:
    async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
        answer = await http.request(method, "/health")
    assert answer.status_code == 200
    if method == "HEAD":
        assert answer.content == b""
        return
    body = answer.json()
    assert list(body) == ["status", "timestamp", "version", "services", "ready"]
    assert body["status"] == "healthy"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])
    assert body["services"] == {
        "redis": "connected",
        "llm_worker": "ready",
        "sd_worker": "unavailable",
    }


@pytest.mark.usefixtures("new_edge")
async def test_unhealthy_without_services(edge: Edge) -> None:
    await edge.backend.stop()
    answer = await edge.http.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"


async def test_wrong_method_and_unknown_path(edge: Edge) -> None:
    wrong = await edge.http.put("/v1/models/words")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET, HEAD"
    assert wrong.json()["error"]["code"] == "method_not_supported"
    for path in ("/v1/nope", "/nope", "/v1/models/", "/v1/chat/completions/"):
        answer = await edge.http.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_url"
        assert "x-request-id" in answer.headers


async def test_preflight(edge: Edge) -> None:
    async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
        answer = await http.options(
            "/v1/chat/completions",
            headers={
                "origin": "https://a.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,x-stainless-os,x-evil",
            },
        )
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    allowed = answer.headers["access-control-allow-headers"]
    assert "X-Request-Id" in allowed
    assert "OpenAI-Beta" in allowed
    assert allowed.endswith("x-stainless-os")
    plain = await edge.http.get("/v1/models", headers={"origin": "https://a.example"})
    assert plain.headers["access-control-allow-origin"] == "*"
    assert "x-ratelimit-remaining-requests" in plain.headers["access-control-expose-headers"]


class TestRateLimit:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"api": {"max_requests_per_minute": 2}}

    async def test_third_request_waits(self, edge: Edge) -> None:
        for remaining in ("1", "0"):
            answer = await edge.http.get("/v1/models")
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            assert answer.headers["x-ratelimit-remaining-requests"] == remaining
            assert re.fullmatch(r"(\d+m)?[\d.]+m?s", answer.headers["x-ratelimit-reset-requests"])
        answer = await edge.http.get("/v1/models")
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "requests"
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60


class TestWithoutAuth:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"api": {"require_auth": False}}

    @pytest.mark.parametrize("credential", [None, "Bearer whatever"])
    async def test_anybody_may_ask(self, edge: Edge, credential: str | None) -> None:
        async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
            headers = {} if credential is None else {"authorization": credential}
            answer = await http.get("/v1/models", headers=headers)
        assert answer.status_code == 200
        assert "authorization" not in edge.backend.metadata[-1]

    async def test_a_known_token_travels(self, edge: Edge) -> None:
        await edge.http.get("/v1/models")
        assert edge.backend.metadata[-1]["authorization"] == "Bearer sk-test"


async def test_openapi_describes_what_is_served(edge: Edge) -> None:
    document = (await edge.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(schemas)
    assert schemas["ChatCompletionRequest"]["required"] == ["messages"]
    edit = document["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert set(edit) == {"application/json", "multipart/form-data"}
    assert set(schemas["ImageEditForm"]["required"]) == {"image", "prompt"}
    listing = document["paths"]["/v1/vector_stores/{vector_store_id}/files"]["get"]
    own = [parameter for parameter in listing["parameters"] if "$ref" not in parameter]
    places = {parameter["name"]: parameter["in"] for parameter in own}
    assert places.pop("vector_store_id") == "path"
    assert places == dict.fromkeys(("limit", "order", "after", "before", "filter"), "query")


class TestSmallBodies:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"max_body_bytes": 1000}

    async def test_too_large_by_length(self, edge: Edge) -> None:
        answer = await edge.http.post("/v1/completions", content=b"x" * 1001)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"

    async def test_too_large_in_chunks(self, edge: Edge) -> None:
        async def pieces():  # type: ignore[no-untyped-def]
            for _ in range(30):
                yield b"x" * 100
                await asyncio.sleep(0)

        answer = await edge.http.post("/v1/completions", content=pieces())
        assert answer.status_code == 413

    async def test_the_limit_itself_is_allowed(self, edge: Edge) -> None:
        body = json.dumps({"model": "words", "prompt": "x"}).encode()
        body += b" " * (1000 - len(body))
        assert (await edge.http.post("/v1/completions", content=body)).status_code == 200
