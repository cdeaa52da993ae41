"""The same causes in every dialect: each is told in that dialect's own shape, with its status.

Nothing is behind this edge, so that a request which is right ends in UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.settings import ApiSettings, Settings
from tests.integration.gateway.conftest import live_edge
from tests.integration.gateway.refusals import DIALECTS, TEXT

TOKEN = "a-token-of-a-user"


REQUEST = "invalid_request_error"
WORDS = {
    "malformed": {
        "status": 400,
        "openai": REQUEST,
        "anthropic": REQUEST,
        "velesio": "invalid_request",
        "ollama": "str",
        "gel": "BadRequestError",
        "webui": "invalid_request",
        "botserver": "bad_request",
    },
    "stranger": {
        "status": 401,
        "openai": REQUEST,
        "anthropic": "authentication_error",
        "velesio": "unauthorized",
        "ollama": "str",
        "gel": TEXT,
        "webui": "unauthorized",
        "botserver": "unauthorized",
    },
    "unknown": {
        "status": 404,
        "openai": REQUEST,
        "anthropic": "not_found_error",
        "velesio": "not_found",
        "ollama": "str",
        "gel": TEXT,
        "webui": "not_found",
        "botserver": "not_found",
    },
    "method": {
        "status": 405,
        "openai": REQUEST,
        "anthropic": REQUEST,
        "velesio": "invalid_request",
        "ollama": "str",
        "gel": TEXT,
        "webui": "invalid_request",
        "botserver": "method_not_allowed",
    },
    "large": {
        "status": 413,
        "openai": REQUEST,
        "anthropic": "request_too_large",
        "velesio": "invalid_request",
        "ollama": "str",
        "gel": "BadRequestError",
        "webui": "invalid_request",
        "botserver": "payload_too_large",
    },
    "limited": {
        "status": 429,
        "openai": "requests",
        "anthropic": "rate_limit_error",
        "velesio": "rate_limit_exceeded",
        "ollama": "str",
        "gel": "AIProviderError",
        "webui": "rate_limit_exceeded",
        "botserver": "rate_limited",
    },
    "away": {
        "status": 503,
        "openai": "server_error",
        "anthropic": "api_error",
        "velesio": "internal_error",
        "ollama": "str",
        "gel": "AIProviderError",
        "webui": "internal_error",
        "botserver": "service_unavailable",
    },
}


@dataclass(frozen=True)
class Lone:
    """An edge with nothing behind it."""

    host: str
    port: int
    http: httpx.AsyncClient


def settings(folder: Path, **api: Any) -> Settings:
    addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
    api_settings = ApiSettings(**api)
    return Settings(data_dir=folder, addresses=addresses, api_tokens=(TOKEN,), api=api_settings)


@contextlib.asynccontextmanager
async def opened(folder: Path, **api: Any) -> AsyncIterator[Lone]:
    async with live_edge(settings(folder, **api)) as (_, _, host, port):
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=headers, timeout=30
        ) as client:
            yield Lone(host, port, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lone(module_loop: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lone]:
    async with opened(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


def check(name: str, cause: str, status: int, kind: str, content: bytes) -> None:
    expected = WORDS[cause]
    assert status == expected["status"], content
    if expected[name] is TEXT:
        assert kind.startswith("text/plain")
        assert content.strip()
    else:
        assert kind == "application/json"
        assert DIALECTS[name].says(json.loads(content)) == expected[name], content


def answered(name: str, cause: str, answer: httpx.Response) -> None:
    check(name, cause, answer.status_code, answer.headers["content-type"], answer.content)
    assert answer.headers["x-request-id"]


each = pytest.mark.parametrize("name", DIALECTS)


@each
async def test_what_is_not_json(lone: Lone, name: str) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"{", b"[1]", b'"text"', b"\xff", b'{"a": NaN}'):
        answer = await lone.http.post(DIALECTS[name].path, content=content, headers=headers)
        if name == "gel" and answer.headers["content-type"].startswith("text/plain"):
            assert answer.status_code == 400
        else:
            answered(name, "malformed", answer)


@each
async def test_values_of_the_wrong_type(lone: Lone, name: str) -> None:
    dialect = DIALECTS[name]
    answer = await lone.http.post(dialect.path, json={**dialect.body, **dialect.wrong})
    answered(name, "malformed", answer)
    assert next(iter(dialect.wrong)) in answer.text


@each
async def test_strangers(lone: Lone, name: str) -> None:
    dialect = DIALECTS[name]
    request = lone.http.build_request("POST", dialect.path, json=dialect.body)
    del request.headers["authorization"]
    nobody = await lone.http.send(request)
    answered(name, "stranger", nobody)
    assert "Bearer" in nobody.headers["www-authenticate"]
    wrong = {"authorization": "Bearer wrong"}
    answer = await lone.http.post(dialect.path, json=dialect.body, headers=wrong)
    if name == "botserver":
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    else:
        answered(name, "stranger", answer)


@pytest.mark.parametrize("name", [name for name in DIALECTS if DIALECTS[name].unknown])
async def test_paths_that_are_nobodys(lone: Lone, name: str) -> None:
    answered(name, "unknown", await lone.http.post(DIALECTS[name].unknown, json={}))


@each
async def test_methods_that_are_not_taken(lone: Lone, name: str) -> None:
    answer = await lone.http.put(DIALECTS[name].path, json=DIALECTS[name].body)
    answered(name, "method", answer)
    assert "POST" in answer.headers["allow"]


@each
async def test_bodies_that_are_too_large(lone: Lone, name: str) -> None:
    def declared() -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(lone.host, lone.port, timeout=30)
        connection.putrequest("POST", DIALECTS[name].path)
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(65 * 2**20))
        connection.endheaders()
        answer = connection.getresponse()
        found = answer.status, answer.headers["content-type"], answer.read()
        connection.close()
        return found

    check(name, "large", *await asyncio.to_thread(declared))


@each
async def test_a_service_that_is_away(lone: Lone, name: str) -> None:
    dialect = DIALECTS[name]
    answer = await lone.http.post(dialect.path, json=dialect.body)
    answered(name, "away", answer)
    assert int(answer.headers["retry-after"]) <= 60


@each
async def test_one_request_too_many(tmp_path: Path, name: str) -> None:
    dialect = DIALECTS[name]
    async with opened(tmp_path, max_requests_per_minute=1) as lone:
        answered(name, "away", await lone.http.post(dialect.path, json=dialect.body))
        answer = await lone.http.post(dialect.path, json=dialect.body)
    answered(name, "limited", answer)
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_the_document_names_every_header(tmp_path: Path) -> None:
    """Those that the request may have, and all that answers of each dialect had."""
    limited = settings(tmp_path, max_requests_per_minute=3)
    async with live_edge(limited) as (_, _, host, port):
        base = {"base_url": f"http://{host}:{port}", "timeout": 30}
        async with httpx.AsyncClient(**base, headers={"authorization": f"Bearer {TOKEN}"}) as http:
            document = (await http.get("/openapi.json")).json()
            components = document["components"]
            answers = [
                (DIALECTS[name].path, await http.post(DIALECTS[name].path, json=body))
                for name in ("openai", "anthropic", "velesio", "gel", "ollama", "botserver")
                for body in ([DIALECTS[name].body] if name != "velesio" else [{"messages": 5}])
            ]
    assert {answer.status_code for _, answer in answers} >= {429}
    every = {"content-type", "content-length", "date", "connection", "server"}
    for path, answer in answers:
        described = document["paths"][path.replace("/default/", "/{branch}/")]["post"]
        named = {
            components["parameters"][one["$ref"].rpartition("/")[2]]["name"]
            for one in described["parameters"]
            if "$ref" in one
        }
        assert named == {"X-Request-Id", "X-Request-Timeout"}
        told = described["responses"]["default"]["headers"]
        assert set(answer.headers) - every <= set(told), path
        assert set(told) <= set(components["headers"])


async def test_every_operation_reads_how_long_its_caller_waits(lone: Lone) -> None:
    paths = (await lone.http.get("/openapi.json")).json()["paths"]
    asked = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            taken = {"$ref": "#/components/parameters/RequestTimeout"} in operation["parameters"]
            assert taken is (operation.get("security") != []), path
            if taken:
                url = re.sub(r"\{branch\}", "default", path)
                url = re.sub(r"\{\w+\}", "x", url)
                headers = {"x-request-timeout": "0"}
                answer = await lone.http.request(method.upper(), url, headers=headers)
                assert answer.status_code == 400, (method, path, answer.text)
                assert method == "head" or "X-Request-Timeout" in answer.text, path
                asked += 1
    assert asked > 100
