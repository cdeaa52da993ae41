"""Gel's AI extension over real sockets: paths, callers, branches, vectors and whole answers."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from google.protobuf import json_format
from penstock.retrieval.v1 import collection_pb2

from policy.principals import Role
from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.embedding_peer import vector
from tests.integration.gateway.gel.gel_edge import (
    EMBEDDINGS,
    RAG,
    TOKEN,
    Keys,
    basic,
    bearer,
    peer_of,
    rag,
)

PREFIXES = ("/branch/main/ai", "/branch/main/ext/ai", "/db/main/ai", "/db/main/ext/ai")
CHALLENGE = 'Basic realm="edgedb", Bearer'


def check_text(answer: httpx.Response, status: int, text: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["connection"] == "close"
    if text is not None:
        assert answer.text == text


def check_error(answer: httpx.Response, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    body = answer.json()
    assert list(body) == ["message", "type"]
    assert body["type"] == kind
    return body["message"]


# --- paths


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_four_prefixes_mean_the_same(edge: Edge, prefix: str) -> None:
    answer = await edge.http.post(f"{prefix}/rag", json=rag())
    assert answer.json()["text"] == "once upon"
    answer = await edge.http.post(f"{prefix}/embeddings", json={"inputs": "a", "model": "m"})
    assert answer.status_code == 200
    assert peer_of(edge).answers[-1].parent == "tenants/default"


@pytest.mark.parametrize(
    "path",
    [
        "/branch/main/ai/unknown",
        "/branch/main/ai/rag/",
        "/branch/main/ai/rag/more",
        "/branch/main/ai",
        "/branch/main/ext/ai/%72ag",
        "/branch/a/b/ai/rag",
        "/branch/%ff/ai/rag",
        "/db//ai/rag",
    ],
)
async def test_unknown_paths(edge: Edge, path: str) -> None:
    check_text(await edge.http.post(path, json=rag()), 404, "Unknown path")


@pytest.mark.parametrize("path", ["/branch/main", "/branch/main/edgeql", "/db/x/ext/auth/x"])
async def test_other_paths_of_branches_are_nobodys(edge: Edge, path: str) -> None:
    answer = await edge.http.post(path, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods(edge: Edge, method: str) -> None:
    answer = await edge.http.request(method, RAG)
    check_text(answer, 405, "Invalid request method")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "json"])
async def test_what_is_not_said_to_be_json(edge: Edge, kind: str) -> None:
    answer = await edge.http.post(
        RAG, content=json.dumps(rag()), headers={"content-type": kind} if kind else {}
    )
    check_text(answer, 400, "Expected application/json input")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_what_is_said_to_be_json(edge: Edge, kind: str) -> None:
    headers = {"content-type": kind}
    assert (await edge.http.post(RAG, content=json.dumps(rag()), headers=headers)).is_success


# --- callers


@pytest.mark.parametrize("user", ["edgedb", "admin", "anybody", ""])
async def test_a_key_is_the_password_of_any_user(edge: Edge, user: str) -> None:
    answer = await edge.http.post(RAG, json=rag(), headers=basic(user, TOKEN))
    assert answer.is_success
    assert peer_of(edge).metadata[-1]["authorization"] == f"Bearer {TOKEN}"


async def test_a_key_of_a_user_of_gel_is_that_users(edge: Edge, keys: Keys) -> None:
    async def status(headers: dict[str, str]) -> int:
        return (await edge.http.post(RAG, json=rag(), headers=headers)).status_code

    assert await status(basic("alice", keys.alice)) == 200
    assert await status(basic("bob", keys.alice)) == 401
    assert await status(bearer(keys.alice)) == 200
    for header in ("X-EdgeDB-User", "X-Gel-User"):
        assert await status(bearer(keys.alice) | {header: "alice"}) == 200
        assert await status(bearer(keys.alice) | {header: "edgedb"}) == 200  # nobody was named
        assert await status(bearer(keys.alice) | {header: "bob"}) == 401
        assert await status(bearer(TOKEN) | {header: "bob"}) == 200
    keys.file.revoke(keys.alice_id)
    assert await status(basic("alice", keys.alice)) == 401


async def test_no_credentials(edge: Edge) -> None:
    async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
        answer = await http.post(RAG, json=rag())
    check_text(answer, 401)
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer wrong",
        "Bearer",
        "Basic !",
        "Basic " + "YQ==",
        "Basic YWxpY2U6d3Jvbmc=",
        "Basic /////w==",
        "Digest a=b",
        "nonsense",
        "Bearer pst_x.y",
    ],
)
async def test_wrong_credentials(edge: Edge, credential: str) -> None:
    answer = await edge.http.post(RAG, json=rag(), headers={"authorization": credential})
    check_text(answer, 401)
    assert "www-authenticate" not in answer.headers
    assert not peer_of(edge).answers


# --- branches


@pytest.mark.parametrize(
    ("caller", "branch", "tenant"),
    [
        ("user", "main", "default"),
        ("user", "edgedb", "default"),
        ("user", "__default__", "default"),
        ("user", "default", "default"),
        ("admin", "main", "default"),
        ("admin", "__default__", "default"),
        ("admin", "acme", "acme"),
        ("acme", "acme", "acme"),
        ("acme", "__default__", "acme"),
        ("main", "main", "main"),
        ("main", "edgedb", "default"),
        ("acme", "main", 401),
        ("user", "acme", 401),
        ("user", "nowhere", 404),
        ("acme", "nowhere", 404),
        ("admin", "nowhere", 404),
        ("admin", "*", 404),
        ("user", "a%2Fb", 404),
        ("user", "a%0Ab", 404),
        ("user", "x" * 200, 404),
    ],
)
async def test_branches(
    edge: Edge, keys: Keys, caller: str, branch: str, tenant: str | int
) -> None:
    key = {"user": TOKEN, "admin": keys.admin, "acme": keys.acme, "main": keys.main}[caller]
    answer = await edge.http.post(f"/branch/{branch}/ai/rag", json=rag(), headers=bearer(key))
    if isinstance(tenant, int):
        check_text(answer, tenant)
        assert not peer_of(edge).answers
        assert "www-authenticate" not in answer.headers
    else:
        assert answer.is_success
        assert peer_of(edge).answers[-1].parent == f"tenants/{tenant}"


async def test_a_branch_may_have_an_encoded_name(edge: Edge, keys: Keys) -> None:
    _, secret = keys.file.create("z", [Role.USER], tenants=["größe 1"])
    answer = await edge.http.post(
        "/db/gr%C3%B6%C3%9Fe%201/ai/rag", json=rag(), headers=bearer(secret)
    )
    assert answer.is_success
    assert peer_of(edge).answers[-1].parent == "tenants/größe 1"


async def test_a_branch_that_no_key_names_is_known_by_what_is_in_it(edge: Edge, keys: Keys) -> None:
    path, headers = "/branch/fresh/ai/embeddings", bearer(keys.admin)
    body = {"inputs": "a", "model": "m"}
    check_text(await edge.http.post(path, json=body, headers=headers), 404)
    collection = collection_pb2.Collection(name="tenants/fresh/collections/T")
    peer_of(edge).collections[collection.name] = collection
    assert (await edge.http.post(path, json=body, headers=headers)).is_success
    # It is nobody else's.
    check_text(await edge.http.post(path, json=body, headers=bearer(TOKEN)), 404)


# --- vectors


@pytest.mark.parametrize("name", ["inputs", "input"])
async def test_vectors(edge: Edge, name: str) -> None:
    body = {
        name: ["a b", "c"],
        "model": "m",
        "dimensions": 4,
        "user": "me",
        "encoding_format": "base64",  # floats all the same
        "other": None,
    }
    answer = await edge.http.post(EMBEDDINGS, json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert [item["index"] for item in found["data"]] == [0, 1]
    assert found["object"] == "list"
    assert found["model"] == "m"
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for item, text in zip(found["data"], ["a b", "c"], strict=True):
        assert item["object"] == "embedding"
        got = np.array(item["embedding"], "<f4")
        assert (got == vector(text, 4)).all()
    request = edge.vectors.embedding.requests[-1]
    assert (request.user, request.dimensions) == ("me", 4)
    assert request.request_id == answer.headers["x-request-id"]


async def test_one_input(edge: Edge) -> None:
    answer = await edge.http.post(EMBEDDINGS, json={"inputs": "a", "model": "m"})
    assert len(answer.json()["data"]) == 1


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("fails-MODEL_NOT_FOUND-model", 400, "BadRequestError"),
        ("fails-CONTEXT_LENGTH_EXCEEDED-inputs[0].text", 400, "BadRequestError"),
        ("fails-UNSUPPORTED_PARAMETER-dimensions", 400, "BadRequestError"),
        ("fails-QUEUE_FULL", 503, "AIProviderError"),
        ("fails-INTERNAL", 500, "InternalError"),
    ],
)
async def test_vectors_that_fail(edge: Edge, model: str, status: int, kind: str) -> None:
    answer = await edge.http.post(EMBEDDINGS, json={"inputs": "a", "model": model})
    message = check_error(answer, status, kind)
    assert ".text" not in message
    assert ("retry-after" in answer.headers) == (status == 503)


# --- whole answers


async def test_a_whole_answer_byte_by_byte(edge: Edge) -> None:
    answer = await edge.http.post(RAG, json=rag())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (
        b'{"id":"chatcmpl-a","model":"words","text":"once upon","finish_reason":"stop",'
        b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12},'
        b'"logprobs":null,"tool_calls":[],"response":"once upon"}'
    )


async def test_tools_and_logprobs(edge: Edge) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await edge.http.post(RAG, json=rag("tools", " ", tools=[tool], logprobs=True))
    found = answer.json()
    assert found["text"] is None
    assert found["response"] is None
    assert found["finish_reason"] == "tool_calls"
    assert found["tool_calls"] == [
        {"id": "call_1", "type": "function", "name": "f", "args": {"a": 1}},
        {"id": "call_2", "type": "function", "name": "g", "args": "oops"},
    ]
    assert found["logprobs"] == {"content": [], "refusal": None}
    assert peer_of(edge).answers[-1].tools[0].parameters_json == '{"type":"object"}'
    scored = (await edge.http.post(RAG, json=rag(query="a", logprobs=3))).json()["logprobs"]
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    assert scored == {"content": [token], "refusal": None}
    assert peer_of(edge).answers[-1].sampling.logprobs == 3


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ("words", ["words"]),
        ("ft:words", ["ft:words"]),
        ("openai:words", ["openai:words", "words"]),
        ("a:b:words", ["a:b:words", "b:words"]),
        ("openai:", ["openai:"]),
    ],
)
async def test_the_whole_name_of_a_model_comes_first(
    edge: Edge, asked: str, tried: list[str]
) -> None:
    answer = await edge.http.post(RAG, json=rag(asked))
    assert [request.model for request in peer_of(edge).answers] == tried
    if tried[-1].endswith("words") and tried[-1].count(":") == asked.count("ft:"):
        assert answer.json()["model"] == asked
    else:
        assert "MODEL_NOT_FOUND" in check_error(answer, 400, "BadRequestError")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("changes", "status", "kind"),
    [
        ({"context": {"query": "Nothing"}}, 400, "BadRequestError"),
        ({"context": {"query": "Missing"}}, 400, "BadRequestError"),
        ({"prompt": {"name": "unknown"}}, 400, "BadRequestError"),
        ({"prompt": {"name": "a/b"}}, 400, "BadRequestError"),
        ({"prompt": {"id": "unknown"}}, 400, "BadRequestError"),
        ({"model": "fails-INVALID_ARGUMENT-context.expression"}, 400, "BadRequestError"),
        ({"model": "fails-QUEUE_FULL"}, 503, "AIProviderError"),
        ({"model": "fails-INTERNAL"}, 500, "InternalError"),
        ({"model": "cut", "query": " "}, 503, "AIProviderError"),
    ],
)
async def test_answers_that_fail(
    edge: Edge, changes: dict[str, Any], status: int, kind: str, stream: bool
) -> None:
    if stream and changes.get("model") == "cut":
        pytest.skip("the stream has begun")
    answer = await edge.http.post(RAG, json=rag(stream=stream) | changes)
    message = check_error(answer, status, kind)
    assert "expression" not in message


async def test_a_tenant_that_the_service_denies(edge: Edge) -> None:
    check_text(await edge.http.post(RAG, json=rag("fails-NOT_FOUND-parent")), 404)
    check_text(await edge.http.post(RAG, json=rag("fails-PERMISSION_DENIED")), 403)


async def test_everything_travels(edge: Edge) -> None:
    body = rag(
        context={
            "query": "(select T filter .year > <int64>$year)",
            "variables": {"year": 2**60, "deep": {"a": [1, 2.5, None, True, "x"]}},
            "globals": {"g": False},
            "max_object_count": 7,
        },
        prompt={
            "name": "mine",
            "custom": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "u"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
                {
                    "role": "assistant",
                    "content": "c",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "content": "t", "tool_call_id": "1"},
            ],
        },
        temperature=0.5,
        top_p=0.25,
        max_tokens=9,
        seed=-1,
        top_k=3,
        logit_bias={"5": -1},
        logprobs=False,
        user="me",
        safe_prompt=True,
    )
    answer = await edge.http.post(RAG, json=body)
    assert answer.is_success
    sent = json_format.MessageToDict(peer_of(edge).answers[-1], preserving_proto_field_name=True)
    assert sent.pop("request_id") == answer.headers["x-request-id"]
    assert sent == {
        "parent": "tenants/default",
        "model": "words",
        "query": "once upon",
        "context": {
            "expression": "(select T filter .year > <int64>$year)",
            "variables": {"year": str(2**60), "deep": {"a": [1, 2.5, None, True, "x"]}},
            "globals": {"g": False},
            "max_object_count": 7,
        },
        "prompt": {
            "name": "tenants/default/prompts/mine",
            "custom_messages": [
                {"role": "ROLE_SYSTEM", "parts": [{"text": "s"}]},
                {"role": "ROLE_USER", "parts": [{"text": "u"}]},
                {"role": "ROLE_USER", "parts": [{"text": "a\nb"}]},
                {
                    "role": "ROLE_ASSISTANT",
                    "parts": [{"text": "c"}],
                    "tool_calls": [{"id": "1", "name": "f", "arguments_json": "{}"}],
                },
                {"role": "ROLE_TOOL", "parts": [{"text": "t"}], "tool_call_id": "1"},
            ],
        },
        "sampling": {
            "temperature": 0.5,
            "top_p": 0.25,
            "top_k": 3,
            "seed": "-1",
            "max_tokens": 9,
            "logit_bias": {"5": -1.0},
        },
        "safe_prompt": True,
        "user": "me",
    }


async def test_what_is_null_is_absent(edge: Edge) -> None:
    empty = dict.fromkeys(
        ("prompt", "stream", "temperature", "seed", "tools", "logprobs", "logit_bias", "user")
    )
    context = dict.fromkeys(("variables", "globals", "max_object_count")) | {"query": "T"}
    assert (await edge.http.post(RAG, json=rag(**empty) | {"context": context})).is_success
    request = peer_of(edge).answers[-1]
    assert not request.HasField("prompt")
    assert not request.context.HasField("variables")
    # Without a name there is no stored prompt, which is not the same as no word of it.
    assert (await edge.http.post(RAG, json=rag(prompt={}))).is_success
    assert peer_of(edge).answers[-1].HasField("prompt")
    assert peer_of(edge).answers[-1].prompt.name == ""
    by_id = {"id": "0194c0de-0000-7000-8000-000000000000"}
    assert (await edge.http.post(RAG, json=rag(prompt=by_id))).is_success
    assert peer_of(edge).answers[-1].prompt.name == f"tenants/default/prompts/{by_id['id']}"


async def test_the_openapi_document_has_both(edge: Edge) -> None:
    document = (await edge.http.get("/openapi.json")).json()
    for path in ("/branch/{branch}/ai/rag", "/branch/{branch}/ai/embeddings"):
        described = document["paths"][path]["post"]
        error = described["responses"]["default"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/GelError"}
    assert "event-stream" in str(document["paths"]["/branch/{branch}/ai/rag"])


class TestLimits:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"api": {"max_requests_per_minute": 1}}

    async def test_requests_are_counted(self, edge: Edge) -> None:
        first = await edge.http.post(RAG, json=rag())
        assert first.is_success
        assert first.headers["x-ratelimit-limit"] == "1"
        assert first.headers["x-ratelimit-remaining"] == "0"
        assert abs(int(first.headers["x-ratelimit-reset"]) - time.time()) < 120
        second = await edge.http.post(RAG, json=rag())
        check_error(second, 429, "AIProviderError")
        assert 0 < int(second.headers["retry-after"]) <= 60
        # Paths that are none, and callers who are nobody, cost nothing.
        check_text(await edge.http.post("/branch/main/ai/x", json=rag()), 404)
        wrong = {"authorization": "Bearer wrong"}
        check_text(await edge.http.post(RAG, json=rag(), headers=wrong), 401)


class TestOpenEdge:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"api": {"require_auth": False}}

    @pytest.mark.parametrize("credential", [None, "Bearer made-up", "Basic eDp5"])
    async def test_nobody_needs_a_key(self, edge: Edge, keys: Keys, credential: str | None) -> None:
        headers = {"authorization": credential} if credential else {}
        async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
            assert (await http.post(RAG, json=rag(), headers=headers)).is_success
            assert peer_of(edge).answers[-1].parent == "tenants/default"
            assert "authorization" not in peer_of(edge).metadata[-1]
            # What belongs to others is still theirs.
            closed = await http.post("/branch/acme/ai/rag", json=rag(), headers=headers)
            assert closed.status_code == 401


async def test_a_branch_that_nobody_can_tell_of(
    edge: Edge, keys: Keys, stop_vectors: Callable[[], Awaitable[None]]
) -> None:
    await stop_vectors()
    body = {"inputs": "a", "model": "m"}
    answer = await edge.http.post(
        "/branch/fresh/ai/embeddings", json=body, headers=bearer(keys.admin)
    )
    check_error(answer, 503, "AIProviderError")
