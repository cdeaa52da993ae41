"""Deployments and predictions, as the Server Node's clients ask for them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.raw_platform import (
    USER_KEY,
    RawPlatform,
    document_schema,
    raw_platform,
)
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON

PREDICT = "/v1/predict"
REPOSITORY = Path(__file__).resolve().parents[3]
CLIENT = REPOSITORY / ".venv" / "clients" / "triton" / "bin" / "python"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RawPlatform]:
    async with raw_platform(tmp_path_factory.mktemp("raw")) as platform:
        yield platform


@pytest_asyncio.fixture(loop_scope="module")
async def http(platform: RawPlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with platform.client() as http:
        yield http


async def refused(http: httpx.AsyncClient, status: int, body: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await http.post(PREDICT, content=content)
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


async def test_the_list_has_every_kind(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/v1/deployments")).json()
    assert list(answer) == ["deployments", "count"]
    found = {one["deployment_id"]: one for one in answer["deployments"]}
    assert answer["count"] == len(found) == 8
    assert found["linear"] == {
        "deployment_id": "linear",
        "model_id": "linear",
        "type": "tensor",
        "status": "ready",
    }
    assert {one["type"] for one in found.values()} == {
        *("chat", "completion", "embedding", "rerank", "image", "tensor")
    }


async def test_one_tells_what_it_takes_and_how_it_fares(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await http.post(
            PREDICT, json={"deployment_id": "pair", "input": {"a": [1], "b": [2]}}
        )
        assert answer.status_code == 200
    found = (await http.get("/v1/deployments/pair")).json()
    metrics = found.pop("metrics")
    assert found == {
        "deployment_id": "pair",
        "model_id": "pair",
        "type": "tensor",
        "status": "ready",
        "id": "pair",
        "input_specs": [
            {"name": "a", "shape": [-1], "dtype": "FP32"},
            {"name": "b", "shape": [-1], "dtype": "FP32"},
        ],
        "output_specs": [
            {"name": "sum", "shape": [-1], "dtype": "FP32"},
            {"name": "product", "shape": [-1], "dtype": "FP32"},
        ],
    }
    assert metrics.pop("avg_latency_ms") > 0
    assert metrics == {"request_count": 2, "running": 0, "waiting": 0}
    echo = (await http.get("/v1/deployments/echo-arrays")).json()
    assert echo["input_specs"] == [{"name": "input", "shape": None, "dtype": "FP32"}]


@pytest.mark.parametrize("name", ["talker", "org/talker", "writer", "vectors", "judge", "painter"])
async def test_others_take_no_tensors(http: httpx.AsyncClient, name: str) -> None:
    found = (await http.get(f"/v1/deployments/{name}")).json()
    assert (found["input_specs"], found["output_specs"]) == ([], [])
    assert (found["metrics"]["running"], found["metrics"]["waiting"]) == (0, 0)
    assert found["metrics"]["avg_latency_ms"] is None


async def test_a_deployment_that_is_not_there(http: httpx.AsyncClient) -> None:
    for name in ("nobody", "a%20b", "%00", "x" * 300):
        answer = await http.get(f"/v1/deployments/{name}")
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "deployment_id")
    assert (await http.get("/v1/deployments/")).json()["error"]["code"] == "unknown_url"


async def test_predictions_come_in_a_row(http: httpx.AsyncClient) -> None:
    given = {"deployment_id": "linear", "input": [[1, 1, 1], [0, 1, 2]]}
    answer = (await http.post(PREDICT, json=given)).json()
    assert list(answer) == ["deployment_id", "output", "shape", "latency_ms"]
    assert answer["deployment_id"] == "linear"
    assert (answer["output"], answer["shape"]) == ([6.0, 9.0, 10.0, 13.0], [2, 2])
    assert answer["latency_ms"] > 0
    one = (await http.post(PREDICT, json=given | {"input": [1, 1, 1]})).json()
    assert (one["output"], one["shape"]) == ([6.0, 9.0], [1, 2]), "an array alone is a batch of one"
    named = (await http.post(PREDICT, json=given | {"input": {"x": [[1, 1, 1]]}})).json()
    assert (named["output"], named["shape"]) == ([6.0, 9.0], [1, 2])


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": [1]}, "deployment_id", "missing_required_parameter"),
        ({"deployment_id": "linear"}, "input", "missing_required_parameter"),
        ({"deployment_id": 1, "input": [1]}, "deployment_id", "invalid_type"),
        ({"deployment_id": "linear", "input": "x"}, "input", "invalid_type"),
        ({"deployment_id": "linear", "input": [[1, 2]]}, "input", "invalid_value"),
        ({"deployment_id": "linear", "input": [[1, 2, None]]}, "input[0][2]", "invalid_type"),
        ({"deployment_id": "pair", "input": {"a": [1]}}, "input.b", "missing_required_parameter"),
        ({"deployment_id": "pair", "input": {"a": [1, 2], "b": [1] * 3}}, "input", None),
        ({"deployment_id": "talker", "input": [[1]]}, "deployment_id", "invalid_value"),
        ({"deployment_id": "painter", "input": [[1]]}, "deployment_id", "invalid_value"),
    ],
)
async def test_what_is_refused(
    http: httpx.AsyncClient, body: Any, param: str, code: str | None
) -> None:
    error = await refused(http, 400, body)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    if code is not None:
        assert error["code"] == code


async def test_unknown_deployments_are_404(http: httpx.AsyncClient) -> None:
    error = await refused(http, 404, {"deployment_id": "nobody", "input": [[1]]})
    assert (error["code"], error["param"]) == ("model_not_found", "deployment_id")


async def test_answers_are_as_the_document_says(http: httpx.AsyncClient) -> None:
    given = {"deployment_id": "linear", "input": [[1, 1, 1]]}
    answers = {
        ("get", "/v1/deployments"): await http.get("/v1/deployments"),
        ("get", "/v1/deployments/{deployment_id}"): await http.get("/v1/deployments/linear"),
        ("post", PREDICT): await http.post(PREDICT, json=given),
    }
    for (method, path), answer in answers.items():
        jsonschema.validate(answer.json(), await document_schema(http, method, path))


async def test_horrors(http: httpx.AsyncClient) -> None:
    for body in HORRORS.values():
        answer = await http.post(PREDICT, content=body)
        assert answer.status_code == 400, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_generated_values(http: httpx.AsyncClient, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["linear", "pair", "echo-arrays"]))
    body = {"deployment_id": name, "input": data.draw(JSON)}
    body |= data.draw(st.dictionaries(st.sampled_from(["deployment_id", "x"]), JSON, max_size=1))
    answer = await http.post(PREDICT, content=json.dumps(body).encode("utf-8", "replace"))
    assert answer.status_code in (200, 400, 404), answer.text


async def test_a_key_is_needed(platform: RawPlatform) -> None:
    async with platform.client("") as http:
        for method, path in (
            ("GET", "/v1/deployments"),
            ("GET", "/v1/deployments/linear"),
            ("POST", PREDICT),
        ):
            answer = await http.request(method, path)
            assert answer.status_code == 401


async def test_tritonclient_reaches_them(platform: RawPlatform) -> None:
    script = REPOSITORY / "tests" / "e2e" / "triton_session.py"
    http, inference = platform.url.removeprefix("http://"), platform.processes.address("inference")
    command = [CLIENT, script, http, inference, USER_KEY]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("ok tritonclient.grpc refusals\n")
