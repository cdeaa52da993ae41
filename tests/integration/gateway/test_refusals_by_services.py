"""Refusals whose cause lies behind the edge: each by its real cause, in every dialect that has
it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import Settings
from tests.integration.gateway.conftest import live_edge
from tests.integration.gateway.fault_platform import (
    COMING,
    QUICK,
    SLOW,
    FaultPlatform,
    fault_platform,
    wrong_peer,
)
from tests.integration.gateway.refusal_rows import ROWS
from tests.integration.gateway.refusals import DIALECTS, TEXT

MODELS = {"gel": "e", "webui": "i"}
"""Letters before the names of models of dialects whose main matter is not text."""


def asked(name: str, model: str, text: str = "Hi") -> tuple[str, dict[str, Any]]:
    """A request for a model: path and body."""
    model = MODELS.get(name, "") + model
    if name == "gel":
        return "/branch/default/ai/embeddings", {"model": model, "inputs": [text]}
    if name == "webui":
        settings = {"sd_model_checkpoint": model}
        sizes = {"width": 64, "height": 64, "steps": 100}
        return DIALECTS[name].path, {"prompt": text, "override_settings": settings, **sizes}
    messages = [{"role": "user", "content": text}]
    return DIALECTS[name].path, {**DIALECTS[name].body, "model": model, "messages": messages}


def check(name: str, cause: str, answer: httpx.Response) -> None:
    row = ROWS[cause]
    status = row["status"]
    if isinstance(status, dict):
        status = status.get(name, status[None])
    assert answer.status_code == status, (name, answer.text)
    word = "str" if name == "ollama" else row["velesio" if name == "webui" else name]
    if word is TEXT:
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.strip()
        return
    assert answer.headers["content-type"] == "application/json"
    assert DIALECTS[name].says(answer.json()) == word, (name, answer.text)
    if name == "openai":
        assert answer.json()["error"]["code"] == row["code"]
    if status == 503:
        assert 1 <= int(answer.headers["retry-after"]) <= 60, name


@pytest.fixture
async def faulty(tmp_path: Path) -> Any:
    async with fault_platform(tmp_path) as platform:
        yield platform


async def test_all_is_well(faulty: FaultPlatform) -> None:
    """What the others ask for is refused for no other reason than theirs."""
    http = await faulty.client("user")
    for name in DIALECTS:
        path, body = asked(name, QUICK)
        answer = await http.post(path, json=body)
        assert answer.status_code == 200, (name, answer.text)


@pytest.mark.parametrize(
    ("cause", "roles", "model", "text"),
    [
        ("no role", [], QUICK, "Hi"),
        ("unknown model", ["user"], "nobody", "Hi"),
        ("model that loads", ["user"], COMING, "Hi"),
        ("too long", ["user"], QUICK, "word " * 1000),
    ],
)
async def test_what_cannot_be_served(
    faulty: FaultPlatform, cause: str, roles: list[str], model: str, text: str
) -> None:
    http = await faulty.client(*roles)
    for name in DIALECTS:
        path, body = asked(name, model, text)
        check(name, cause, await http.post(path, json=body))
        if name not in MODELS:  # nothing of a stream is sent before it is known to begin
            check(name, cause, await http.post(path, json=body | {"stream": True}))


async def test_a_full_disk(faulty: FaultPlatform) -> None:
    """Nobody can write down what is used: set so, nothing begins."""
    http = await faulty.client("user")
    with faulty.full_disk():
        for name in DIALECTS:
            path, body = asked(name, QUICK)
            check(name, "disk full", await http.post(path, json=body))


async def test_time_is_over(faulty: FaultPlatform) -> None:
    http = await faulty.client("user")
    for name in DIALECTS:
        path, body = asked(name, SLOW, "one two three four five six seven eight")
        answer = await http.post(path, json=body, headers={"x-request-timeout": "0.3"})
        check(name, "out of time", answer)


async def test_a_full_queue_and_a_service_that_is_killed(faulty: FaultPlatform) -> None:
    """Whoever has the places is there until the service dies."""
    http = await faulty.client("user")
    long = "word " * 150
    for names, service in (
        ([name for name in DIALECTS if name not in MODELS], "inference"),
        (["gel"], "embedding"),
        (["webui"], "image"),
    ):
        holders: dict[asyncio.Task[httpx.Response], str] = {}
        for name in (*names, *names)[: max(2, len(names))]:
            path, body = asked(name, SLOW, "word " * 40 if name in MODELS else long)
            holders[asyncio.create_task(http.post(path, json=body))] = name
        async with asyncio.timeout(60):
            # One runs and one waits, where any may; the others are turned away.
            while sum(not task.done() for task in holders) > (2 if "openai" in names else 1):  # noqa: ASYNC110 - it is asked from outside
                await asyncio.sleep(0.02)
        for task in [task for task in holders if task.done()]:
            check(holders.pop(task), "queue full", await task)
        for name in names:
            path, body = asked(name, SLOW)
            check(name, "queue full", await http.post(path, json=body))
        await faulty.servers[service].stop(0)
        for task, name in holders.items():
            check(name, "killed", await task)
        for name in names:
            path, body = asked(name, QUICK)
            check(name, "killed", await http.post(path, json=body))


PLAIN = {
    "openai": ("/v1/embeddings", {"model": "m", "input": "Hi"}),
    "anthropic": (
        "/v1/messages/count_tokens",
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    ),
    "velesio": ("/tokenize", {"content": "Hi", "model": "m"}),
    "ollama": ("/api/embed", {"model": "m", "input": "Hi"}),
    "gel": ("/branch/default/ai/embeddings", {"model": "m", "inputs": ["Hi"]}),
    "webui": ("/sdapi/v1/txt2img", {"prompt": "a"}),
    "botserver": ("/api/v1/ai/embeddings", {"model": "m", "input": "Hi"}),
}
"""Requests that are one call of a service."""


@pytest.mark.parametrize(("cause", "says"), [("not done there", None), ("nonsense", b"\xff\xff")])
async def test_something_else_is_there(tmp_path: Path, cause: str, says: bytes | None) -> None:
    """A service of another age, without the method; and what is no service of ours at all."""
    async with wrong_peer(says) as address:
        settings = Settings(
            api_tokens=("token",),
            data_dir=tmp_path,
            addresses=dict.fromkeys(Settings().addresses, address),
        )
        async with (
            live_edge(settings) as (_, _, host, port),
            httpx.AsyncClient(
                base_url=f"http://{host}:{port}",
                headers={"authorization": "Bearer token"},
                timeout=60,
            ) as http,
        ):
            for name, (path, body) in PLAIN.items():
                check(name, cause, await http.post(path, json=body))


async def test_what_is_not_there(faulty: FaultPlatform) -> None:
    """In Anthropic's, Ollama's, Velesio's and WebUI's dialect nothing but models has a name."""
    http = await faulty.client("user", "admin")
    for name, path in {
        "openai": "/v1/batches/batch_nobody",
        "botserver": "/api/v1/ai/training/ftjob-nobody/status",
    }.items():
        check(name, "not there", await http.get(path))
    path = "/branch/nowhere/ai/embeddings"
    check("gel", "not there", await http.post(path, json=asked("gel", QUICK)[1]))


async def test_conflicts(faulty: FaultPlatform) -> None:
    """Anthropic's, Gel's, Ollama's and Velesio's text routes make nothing that has a name."""
    http = await faulty.client("user", "admin")

    async def batch(name: str) -> httpx.Response:
        line = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}\n'
        files = {"file": (f"{name}.jsonl", line)}
        file = (await http.post("/v1/files", data={"purpose": "batch"}, files=files)).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings"}
        headers = {"idempotency-key": "once"}
        return await http.post(
            "/v1/batches", json={**body, "completion_window": "24h"}, headers=headers
        )

    first = await batch("a")
    assert first.status_code == 200, first.text
    check("openai", "conflict", await batch("b"))
    # Its file is wanted until it has ended.
    file = first.json()["input_file_id"]
    check("openai", "not now", await http.delete(f"/v1/files/{file}"))

    path, body = asked("webui", SLOW)
    body["force_task_id"] = "mine"
    running = asyncio.create_task(http.post(path, json=body))
    async with asyncio.timeout(60):
        while not (await http.get("/sdapi/v1/progress")).json()["current_task"]:  # noqa: ASYNC110 - that is how clients look
            await asyncio.sleep(0.02)
    check("webui", "conflict", await http.post(path, json=body))
    running.cancel()

    config = f"/api/v1/ai/models/{QUICK}/config"
    stale = {"if-match": '"999"'}
    answer = await http.put(config, json={"default_temperature": 1.0}, headers=stale)
    check("botserver", "conflict", answer)
    # What the configuration file says is changed there.
    deploy = {"name": QUICK, "source": "/elsewhere", "type": "chat"}
    check("botserver", "not now", await http.post("/api/v1/ai/models/deploy", json=deploy))


def test_every_row_says_where_it_is() -> None:
    """A dialect without a row has no cause for it; the tests above say why."""
    without = {
        "not there": {"anthropic", "velesio"},
        "conflict": {"anthropic", "gel"},
        "not now": {"anthropic", "gel", "velesio"},
    }
    for cause, row in ROWS.items():
        missing = set(DIALECTS) - set(row) - {"ollama", "webui"}
        assert missing == without.get(cause, set()), cause
