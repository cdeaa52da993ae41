"""botserver's dialect over a real socket: credentials, roles, routes, errors."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from tests.integration.gateway.botserver.conftest import API, TRAINER, Whole
from tests.integration.gateway.conftest import live_edge

JOB = f"{API}/training/ftjob-{'a' * 24}"
ROUTES = {
    ("POST", f"{API}/training/start"): ("admin", "trainer"),
    ("GET", f"{JOB}/status"): ("admin", "trainer"),
    ("POST", f"{JOB}/cancel"): ("admin", "trainer"),
    ("GET", f"{API}/models"): ("admin", "model_manager"),
    ("GET", f"{API}/models/org%2Fname"): ("admin", "model_manager"),
    ("POST", f"{API}/models/deploy"): ("admin", "model_manager"),
    ("DELETE", f"{API}/models/none"): ("admin", "model_manager"),
    ("GET", f"{API}/models/none/config"): ("admin",),
    ("PUT", f"{API}/models/none/config"): ("admin",),
}


def check(answer: httpx.Response, status: int, word: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert "x-request-id" in answer.headers
    body = answer.json()
    assert list(body) == ["error", "message"]
    assert body["error"] == word
    return body["message"]


async def test_roles(whole: Whole) -> None:
    keys = {
        "user": "my-token",
        "trainer": "trainer-token",
        "model_manager": whole.manager["authorization"].removeprefix("Bearer "),
        "admin": "admin-token",
    }
    for (method, path), roles in ROUTES.items():
        for role, key in keys.items():
            for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
                answer = await whole.http.request(method, path, headers=headers)
                if role in roles:
                    assert answer.status_code in (200, 400, 404), answer.text
                else:
                    message = check(answer, 403, "forbidden")
                    assert all(f"'{name}'" in message for name in roles)


WRONG: list[tuple[dict[str, str | bytes], str]] = [
    ({}, "unauthorized"),
    ({"authorization": "Bearer wrong"}, "invalid_token"),
    ({"authorization": "Bearer"}, "invalid_token"),
    ({"authorization": "Basic bXktdG9rZW46"}, "invalid_token"),
    ({"authorization": "Bearer wrong", "x-api-key": "trainer-token"}, "invalid_token"),
    ({"x-api-key": "wrong"}, "invalid_api_key"),
    ({"x-api-key": "Bearer trainer-token"}, "invalid_api_key"),
    ({"x-api-key": b"\xff\xfe"}, "invalid_api_key"),
    ({"x-api-key": ""}, "unauthorized"),
]


async def test_credentials(whole: Whole) -> None:
    for method, path in ROUTES:
        for headers, word in WRONG:
            answer = await whole.http.request(method, path, headers=headers)  # type: ignore[arg-type]
            check(answer, 401, word)
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_credentials_that_do(whole: Whole) -> None:
    for headers in (
        {"authorization": "bearer trainer-token"},
        {"authorization": "Bearer trainer-token", "x-api-key": "wrong"},
        {"authorization": "Basic Zm9yOnByb3h5", "x-api-key": "trainer-token"},
    ):
        check(await whole.http.get(f"{JOB}/status", headers=headers), 404, "not_found")


async def test_who_needs_no_key_still_needs_a_role(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
    api = ApiSettings(require_auth=False)
    async with live_edge(Settings(api=api, data_dir=tmp_path, addresses=nowhere)) as edge:
        _, _, host, port = edge
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as http:
            for method, path in ROUTES:
                for headers in ({}, {"x-api-key": "made-up"}):
                    answer = await http.request(method, path, headers=headers)
                    check(answer, 403, "forbidden")


async def test_unknown_routes(whole: Whole) -> None:
    for path in ("", "/", "/x", "/training", "/training/start/x", "/models/", "/training//status"):
        check(await whole.http.get(f"{API}{path}", headers=whole.manager), 404, "not_found")


async def test_other_methods(whole: Whole) -> None:
    for method, path, allowed in (
        ("GET", f"{API}/training/start", "POST"),
        ("DELETE", f"{JOB}/status", "GET, HEAD"),
        ("PUT", f"{JOB}/cancel", "POST"),
        ("POST", f"{API}/models", "GET, HEAD"),
        ("PATCH", f"{API}/models/a/config", "GET, HEAD, PUT"),
        ("POST", f"{API}/models/a", "DELETE, GET, HEAD"),
    ):
        answer = await whole.http.request(method, path)
        check(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("limit", [5])
async def test_limits(whole: Whole) -> None:
    for left in (4, 3, 2, 1, 0):
        answer = await whole.http.get(f"{JOB}/status", headers=TRAINER)
        assert answer.status_code == 404
        assert answer.headers["x-ratelimit-limit"] == "5"
        assert answer.headers["x-ratelimit-remaining"] == str(left)
        assert re.fullmatch(r"\d+", answer.headers["x-ratelimit-reset"])
    refused = await whole.http.get(f"{JOB}/status", headers=TRAINER)
    check(refused, 429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await whole.http.get(f"{API}/models", headers=whole.manager)).status_code == 200
