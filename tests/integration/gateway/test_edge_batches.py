"""Batches of OpenAI's dialect, with a real training service behind the edge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.inference.v1 import priority_pb2

from policy.credentials import Credentials
from policy.oidc import JwtRules, JwtVerifier
from policy.principals import Limits, Role
from policy.token_store import TokenSources
from services.training.records import Caller
from tests.integration.gateway.batch_stack import (
    BatchStack,
    batch_stack,
    check_whole,
    line,
)
from tests.integration.gateway.conftest import Vectors, live_edge
from tests.integration.training import file_platform
from tests.postgres_server import empty_database
from tests.unit.policy.identity_provider import AUDIENCE, ISSUER, SigningKey, key_set


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[BatchStack]:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge()
        yield stack


async def test_answers_and_errors_stand_in_their_files(real: BatchStack) -> None:
    lines = [
        line(0),
        line(1, "fails-MODEL_NOT_FOUND"),
        line(2, temperature="hot"),
        line(3, stream=True),
        line(4),
    ]
    made = await real.create(lines, metadata={"k": "v"})
    assert made["object"] == "batch"
    assert made["status"] == "validating"
    assert made["errors"] is made["output_file_id"] is made["error_file_id"] is None
    done = await real.until(made["id"], "completed")
    assert done["request_counts"] == {"total": 5, "completed": 2, "failed": 3}
    assert done["metadata"] == {"k": "v"}
    for name in ("in_progress_at", "finalizing_at", "completed_at", "expires_at"):
        assert isinstance(done[name], int), name
    for name in ("failed_at", "expired_at", "cancelling_at", "cancelled_at"):
        assert done[name] is None, name

    good = {one["custom_id"]: one for one in await real.lines(done["output_file_id"])}
    assert set(good) == {"c-0", "c-4"}
    assert list(good["c-0"]) == ["id", "custom_id", "response", "error"]
    assert good["c-0"]["error"] is None
    assert good["c-0"]["id"].startswith("batch_req_")
    response = good["c-0"]["response"]
    assert response["status_code"] == 200
    assert response["request_id"] == "req_" + good["c-0"]["id"].removeprefix("batch_req_")
    assert response["body"]["object"] == "chat.completion"
    assert response["body"]["choices"][0]["message"]["content"].strip() == "say 0"

    bad = {one["custom_id"]: one for one in await real.lines(done["error_file_id"])}
    assert set(bad) == {"c-1", "c-2", "c-3"}
    told = {
        key: (one["response"]["status_code"], one["response"]["body"]["error"]["param"])
        for key, one in bad.items()
    }
    assert told["c-1"][0] == 404
    assert told["c-2"] == (400, "temperature")
    assert told["c-3"] == (400, "stream")
    assert all(one["error"] is None for one in bad.values())
    listed = (await real.http.get("/v1/files", params={"purpose": "batch_output"})).json()["data"]
    assert {one["id"] for one in listed} == {done["output_file_id"], done["error_file_id"]}


async def test_an_answer_is_that_of_the_live_route(real: BatchStack) -> None:
    lines = [line(0, seed=1), line(1, max_tokens=-1), line(2, model=7)]
    done = await real.until((await real.create(lines))["id"], "completed")
    found = await real.lines(done["output_file_id"]) + await real.lines(done["error_file_id"])
    assert len(found) == 3
    for one in found:
        body = lines[int(one["custom_id"].removeprefix("c-"))]["body"]
        live = await real.http.post("/v1/chat/completions", json=body)
        assert live.status_code == one["response"]["status_code"]
        assert live.json() == one["response"]["body"]


async def test_requests_run_as_their_owner_and_behind_all_others(real: BatchStack) -> None:
    made = await real.create([line(0)])
    await real.until(made["id"], "completed")
    [request] = real.backend.requests
    assert request.priority == priority_pb2.PRIORITY_LOW
    [metadata] = real.backend.metadata
    secret = metadata["authorization"].removeprefix("Bearer ")
    assert secret != "my-token"
    await real.http.post("/v1/chat/completions", json=line(1)["body"])
    assert real.backend.requests[1].priority != priority_pb2.PRIORITY_LOW
    mine = await real.service.files.get(made["input_file_id"], Caller("", is_admin=True))
    as_owner = await real.client(str(real.http.base_url), secret)
    seen = await as_owner.get(f"/v1/files/{made['input_file_id']}")
    assert seen.status_code == 200
    assert mine.owner.startswith("api-token-")


async def test_no_client_can_say_that_nobody_waits(real: BatchStack) -> None:
    body = line(0)["body"]
    headers = {"penstock.background": "true", "x-penstock-background": "true"}
    await real.http.post("/v1/chat/completions", json=body, headers=headers)
    assert real.backend.requests[0].priority == priority_pb2.PRIORITY_UNSPECIFIED


async def test_busy_services_are_asked_again(real: BatchStack) -> None:
    made = await real.create([line(0, "busy-2"), line(1)])
    done = await real.until(made["id"], "completed")
    assert done["request_counts"]["completed"] == 2
    assert real.backend.asked == {"say 0": 3, "say 1": 1}
    check_whole(await real.lines(done["output_file_id"]), 2)


async def test_a_batch_is_cancelled_amid_its_requests(real: BatchStack) -> None:
    lines = [line(0), *(line(number, "gated") for number in range(1, 30))]
    made = await real.create(lines)
    await real.counted(made["id"], 1)
    answer = await real.http.post(f"/v1/batches/{made['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "cancelling"
    assert answer.json()["cancelling_at"] is not None
    done = await real.until(made["id"], "cancelled")
    assert done["request_counts"] == {"total": 30, "completed": 1, "failed": 29}
    [one] = await real.lines(done["output_file_id"])
    assert one["custom_id"] == "c-0"
    left = await real.lines(done["error_file_id"])
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    assert sorted(one["custom_id"] for one in left) == sorted(f"c-{n}" for n in range(1, 30))
    await real.backend.until(lambda: not real.backend.live)


@pytest.mark.parametrize("known", [True, False])
async def test_a_batch_whose_key_is_revoked_fails(tmp_path: Path, known: bool) -> None:
    async with batch_stack(tmp_path) as stack:
        if not known:
            stack.keys.told.clear()
        url = await stack.start_edge(batch_concurrency=1)
        trainer = await stack.client(url, "trainer-token")
        made = await stack.create([line(n, "gated") for n in range(3)], http=trainer)
        await stack.backend.until(lambda: stack.backend.asked, 60)
        (tmp_path / "tokens.json").write_text(json.dumps({"tokens": []}))
        stack.backend.gate.set()
        admin = await stack.client(url, "admin-token")
        if not known:  # perhaps it is one of those that nobody told of yet
            await stack.counted(made["id"], 1, admin)
            await asyncio.sleep(1.5)
            assert (await stack.get(made["id"], admin))["status"] == "in_progress"
            stack.keys.told.set()
        done = await stack.until(made["id"], "failed", http=admin)
        [error] = done["errors"]["data"]
        assert error["code"] == "owner_key_invalid"
        assert done["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
        left = await stack.lines(done["error_file_id"], http=admin)
        assert [one["error"]["code"] for one in left] == ["batch_failed"] * 2


async def test_a_signed_in_user_s_batch_outlives_their_token(tmp_path: Path) -> None:
    key = SigningKey("key")
    (tmp_path / "jwks.json").write_bytes(key_set(key))
    jwt = JwtRules(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks_file=str(tmp_path / "jwks.json"),
        leeway_s=0.0,
        tenants_claim="org",
        limits=("admin tokens_per_day=500",),
    )
    async with batch_stack(tmp_path, jwt=jwt) as stack:
        url = await stack.start_edge(batch_concurrency=1)
        alice = await stack.client(url, key.sign(roles=["user", "admin"], org=["acme"]))
        made = await stack.create([line(n) for n in range(3)], http=alice)
        done = await stack.until(made["id"], "completed", http=alice)
        check_whole(await stack.lines(done["output_file_id"], alice), 3)
        credentials = Credentials(
            TokenSources(service_token=file_platform.SERVICE_TOKEN), jwt=JwtVerifier(jwt)
        )
        for metadata in stack.backend.metadata:
            owner = credentials.identify(metadata["authorization"].removeprefix("Bearer "))
            assert owner is not None
            assert (owner.id, owner.tenants) == ("jwt:alice", ("acme",))
            assert owner.limits == Limits(tokens_per_day=500)
            assert owner.roles == {Role.USER}, "a batch needs no more"
            assert owner.expires_at is None, "it is not that of the token"


async def test_a_bad_file_fails_its_batch(real: BatchStack) -> None:
    made = await real.create([line(0), line(0), {"custom_id": "x"}])
    done = await real.until(made["id"], "failed")
    assert done["errors"]["object"] == "list"
    assert [(one["code"], one["line"]) for one in done["errors"]["data"]] == [
        ("duplicate_custom_id", 2),
        ("missing_required_parameter", 3),
    ]
    assert done["failed_at"] is not None
    assert not real.backend.requests


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"model": "words", "prompt": "a b"}, "text_completion"),
        ("/v1/responses", {"model": "words", "input": "a b", "store": False}, "response"),
        ("/v1/embeddings", {"model": "v", "input": ["a", "b"]}, "list"),
    ],
)
async def test_other_endpoints(
    tmp_path: Path, vectors: Vectors, endpoint: str, body: dict[str, Any], kind: str
) -> None:
    async with batch_stack(tmp_path) as stack:
        stack.embedding = vectors.address
        await stack.start_edge()
        one = {"custom_id": "p", "method": "POST", "url": endpoint, "body": body}
        made = await stack.create([one], endpoint=endpoint)
        done = await stack.until(made["id"], "completed")
        [found] = await stack.lines(done["output_file_id"])
        assert found["response"]["body"]["object"] == kind
        [request] = stack.backend.requests or vectors.embedding.requests
        assert request.priority == priority_pb2.PRIORITY_LOW


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_two_edges_share_the_work(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    async def run(url: str) -> None:
        async with batch_stack(tmp_path, url) as stack:
            for _ in range(2):
                await stack.start_edge(batch_concurrency=3)
            made = [await stack.create([line(n) for n in range(25)]) for _ in range(4)]
            for batch in made:
                done = await stack.until(batch["id"], "completed")
                check_whole(await stack.lines(done["output_file_id"]), 25)
            assert set(stack.backend.asked.values()) == {4}

    if database == "sqlite":
        await run("")
        return
    async with empty_database(request.getfixturevalue("postgres")) as url:
        await run(url)


async def test_what_an_edge_leaves_another_finishes(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        async with passing_edge(stack) as http:
            made = await stack.create([line(0), *(line(n, "gated") for n in (1, 2))], http=http)
            await stack.counted(made["id"], 1, http)
        # It is stopped: its lease is given back at once.
        stack.backend.gate.set()
        await stack.start_edge()
        done = await stack.until(made["id"], "completed")
        check_whole(await stack.lines(done["output_file_id"]), 3)
        assert stack.backend.asked["say 0"] == 1


@asynccontextmanager
async def passing_edge(stack: BatchStack) -> AsyncIterator[httpx.AsyncClient]:
    """An edge that ends before the stack does."""
    async with live_edge(stack.settings()) as (_, _, host, port):
        headers = {"authorization": "Bearer my-token"}
        url = f"http://{host}:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            yield http


async def test_an_edge_without_room_leaves_batches_alone(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge(batch_concurrency=0)
        made = await stack.create([line(0)])
        await stack.until(made["id"], "in_progress")
        await asyncio.sleep(1.5)
        assert (await stack.get(made["id"]))["status"] == "in_progress"
        await stack.start_edge()
        await stack.until(made["id"], "completed")


async def test_a_file_in_use_stays(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge(batch_concurrency=0)
        made = await stack.create([line(0)])
        answer = await stack.http.delete(f"/v1/files/{made['input_file_id']}")
        assert answer.status_code == 400
        assert made["id"] in answer.json()["error"]["message"]
        await stack.http.post(f"/v1/batches/{made['id']}/cancel")
        await stack.until(made["id"], "cancelled")
        answer = await stack.http.delete(f"/v1/files/{made['input_file_id']}")
        assert answer.status_code == 200


async def test_so_many_requests_run_at_once(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge(batch_concurrency=2)
        made = [await stack.create([line(n, "gated") for n in range(4)]) for _ in range(2)]
        await stack.backend.until(lambda: len(stack.backend.requests) >= 2, 60)
        for batch in made:
            await stack.until(batch["id"], "in_progress")
        await asyncio.sleep(1.5)  # both are leased by now
        assert len(stack.backend.requests) == 2
        stack.backend.gate.set()
        for batch in made:
            done = await stack.until(batch["id"], "completed")
            check_whole(await stack.lines(done["output_file_id"]), 4)


async def test_requests_a_minute_are_for_those_who_wait(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        url = await stack.start_edge(max_requests_per_minute=2)
        idle = await stack.start_edge(batch_concurrency=0)
        http = await stack.client(idle, "my-token")
        made = await stack.create([line(n) for n in range(9)], http=http)
        done = await stack.until(made["id"], "completed", http=http)
        check_whole(await stack.lines(done["output_file_id"], http=http), 9)
        limited = await stack.client(url, "my-token")
        for left in (1, 0):
            answer = await limited.get("/v1/files")
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert (await limited.get("/v1/files")).status_code == 429
