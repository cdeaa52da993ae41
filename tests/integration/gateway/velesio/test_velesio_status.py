"""Queues, health, the banner, limits and credentials at the root."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from penstock.model.v1 import model_pb2

from services.training.job_records import JobState
from tests.integration.gateway.velesio.root_platform import READY, Root, root_platform
from tests.integration.training.job_platform import id_of, job_in, moved, started

TRAINER = {"authorization": "Bearer trainer-token"}
NOBODY = {"authorization": "Bearer nobody"}
ROUTES = [
    ("GET", "/"),
    ("GET", "/models"),
    ("GET", "/queue/status"),
    ("GET", "/template"),
    ("GET", "/props"),
    ("POST", "/completion"),
    ("POST", "/chat/completions"),
    ("POST", "/template"),
    ("POST", "/apply-template"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/props"),
    ("POST", "/slots"),
    ("POST", "/embedding"),
    ("POST", "/embeddings"),
]


@pytest.fixture
async def root(own_root: Root) -> Root:
    """Tests here count what it ever did, and stop parts of it."""
    return own_root


async def queue(root: Root, **more: Any) -> dict[str, Any]:
    answer = await root.http.get("/queue/status", **more)
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert list(got) == [
        "queue_depth",
        "active_workers",
        "pending_jobs",
        "completed_jobs_24h",
        "workers",
    ]
    for worker in got["workers"]:
        assert worker["type"] in ("llm", "sd", "embed", "train")
        assert worker["status"] in ("busy", "idle", "offline")
        assert "current_job" not in worker or worker["status"] == "busy"
    return got


async def test_an_idle_queue(root: Root) -> None:
    got = await queue(root)
    assert (got["queue_depth"], got["active_workers"], got["pending_jobs"]) == (0, 0, 0)
    kinds = [(worker["type"], worker["status"]) for worker in got["workers"]]
    assert kinds == [("llm", "idle")] * 3 + [("embed", "idle")]


async def test_what_runs_waits_and_is_done(root: Root) -> None:
    before = (await queue(root))["completed_jobs_24h"]
    await root.http.post("/completion", json={"prompt": "x", "n_predict": 1})
    assert (await queue(root))["completed_jobs_24h"] == before + 1

    body = {"prompt": "x" * 400, "model": "slow", "n_predict": -1}
    asking = [asyncio.create_task(root.http.post("/completion", json=body)) for _ in range(20)]
    engine = root.registry.resolve("slow").loaded.engine
    async with asyncio.timeout(60):
        while (engine.status().running, engine.status().waiting) != (16, 4):  # noqa: ASYNC110 - an engine has no event for it
            await asyncio.sleep(0.005)
    got = await queue(root)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert got["queue_depth"] == 20
    assert got["pending_jobs"] == 4
    assert got["active_workers"] == 1
    (busy,) = (worker for worker in got["workers"] if worker["status"] == "busy")
    assert (busy["type"], busy["id"]) == ("llm", "models/slow/revisions/1")


async def test_training_jobs_count_for_who_sees_them(root: Root) -> None:
    running = await job_in(root.training, JobState.RUNNING, training_dataset="hours")
    await job_in(root.training, JobState.QUEUED, training_dataset="hours")
    await started(root.training, training_dataset="hours")
    ended = await job_in(root.training, JobState.RUNNING, training_dataset="hours")
    await moved(root.training, ended, JobState.SUCCEEDED, end_time=datetime.now(UTC))
    got = await queue(root, headers=TRAINER)
    assert (got["queue_depth"], got["pending_jobs"], got["active_workers"]) == (3, 2, 1)
    assert got["completed_jobs_24h"] == (await queue(root))["completed_jobs_24h"] + 1
    assert got["workers"][-1] == {
        "id": "train-1",
        "type": "train",
        "status": "busy",
        "current_job": id_of(running),
    }
    assert (await queue(root))["queue_depth"] == 0


async def test_a_service_that_is_away_is_left_out(root: Root) -> None:
    await root.training.server.stop(0)
    got = await queue(root, headers=TRAINER)
    assert {worker["type"] for worker in got["workers"]} == {"llm", "embed"}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_health_needs_no_credential(root: Root, method: str) -> None:
    answer = await root.http.request(method, "/health", headers=NOBODY)
    assert answer.status_code in (200, 503)
    got = answer.json()
    assert list(got) == ["status", "timestamp", "version", "services", "ready"]
    assert got["status"] in ("healthy", "degraded", "unhealthy")
    datetime.strptime(got["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
    assert set(got["services"]) == {"redis", "llm_worker", "sd_worker"}


async def test_banner(root: Root) -> None:
    got = (await root.http.get("/")).json()
    assert got["message"]
    assert got["status"] == "running"
    assert {"/completion", "/health", "/models"} <= set(got["endpoints"])


async def test_every_route_needs_a_credential(root: Root) -> None:
    for method, path in ROUTES:
        for headers in (NOBODY, {"authorization": ""}):
            answer = await root.http.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "unauthorized"


async def test_every_route_is_described(root: Root) -> None:
    described = (await root.http.get("/openapi.json")).json()
    for method, path in ROUTES:
        operation = described["paths"][path][method.lower()]
        refused = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert refused["$ref"].endswith("VelesioError"), (method, path)


async def test_other_methods_and_paths(root: Root) -> None:
    for path in ("/completion", "/slots", "/embeddings"):
        answer = await root.http.get(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json()["error"]["code"] == "invalid_request"
    assert (await root.http.delete("/health")).json()["error"]["code"] == "invalid_request"
    assert (await root.http.get("/completions")).status_code == 404


async def test_what_is_left_of_the_limit(tmp_path: Path) -> None:
    async with root_platform(tmp_path, requests_per_minute=3) as root:
        for remaining in (2, 1, 0):
            answer = await root.http.get("/")
            assert answer.headers["x-ratelimit-limit"] == "3"
            assert answer.headers["x-ratelimit-remaining"] == str(remaining)
            assert abs(int(answer.headers["x-ratelimit-reset"]) - time.time()) < 120
        answer = await root.http.post("/completion", json={"prompt": "x", "n_predict": 1})
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-ratelimit-remaining"] == "0"


async def test_the_default_model(root: Root) -> None:
    async def chosen(path: str, body: dict[str, Any]) -> Any:
        answer = await root.http.post(path, json=body)
        return answer.json().get("model") or answer.json()["error"]["code"]

    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    text = {"prompt": "x", "n_predict": 1}
    assert await chosen("/chat/completions", chat) == "base"
    assert await chosen("/completion", text) == "base"
    failed = model_pb2.Observation.STATE_FAILED
    await root.report(base=failed, writer=READY, vectors=failed)
    # A completion model writes on, but doesn't chat.
    assert await chosen("/completion", text) == "writer"
    assert await chosen("/completion", {"prompt": "x"}) == "writer"
    assert await chosen("/chat/completions", chat) == "model_not_found"
    assert await chosen("/embeddings", {"content": "x"}) == "model_not_found"
    loading = model_pb2.Observation.STATE_LOADING
    await root.report(base=loading, writer=READY, vectors=READY)
    answer = await root.http.post("/chat/completions", json=chat)
    assert answer.status_code in (404, 503)
