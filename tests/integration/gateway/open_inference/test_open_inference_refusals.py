"""What is told where nothing is behind the edge, or the caller asks too often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from tests.integration.gateway.conftest import live_edge

TOKEN = "sk-test"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}


def lone(folder: Path, **api: Any) -> Settings:
    addresses = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
    settings = ApiSettings(**api)
    return Settings(api=settings, api_tokens=(TOKEN,), data_dir=folder, addresses=addresses)


async def test_services_that_are_away(tmp_path: Path) -> None:
    async with (
        live_edge(lone(tmp_path)) as (_, _, host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as http,
    ):
        answer = await http.get("/v2/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False})
        assert (await http.get("/v2/health/live")).status_code == 200
        headers = {"authorization": f"Bearer {TOKEN}"}
        for method, path in (
            ("POST", "models/x/infer"),
            ("GET", "models/x"),
            ("GET", "models/x/ready"),
        ):
            answer = await http.request(method, f"/v2/{path}", json=BODY, headers=headers)
            assert answer.status_code == 503
            assert list(answer.json()) == ["error"]
            assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v2/models/x/infer", "/v2/repository/index"])
async def test_callers_that_ask_too_often(tmp_path: Path, path: str) -> None:
    async with (
        live_edge(lone(tmp_path, max_requests_per_minute=1)) as (_, _, host, port),
        httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers={"authorization": f"Bearer {TOKEN}"}
        ) as http,
    ):
        assert (await http.post(path, json={})).status_code in (400, 501)
        answer = await http.post(path, json={})
        assert answer.status_code == 429
        assert list(answer.json()) == ["error"]
        assert answer.headers["retry-after"]
        assert answer.headers["x-ratelimit-limit"] == "1"
