"""Bodies, queries, paths and files of batches that no SDK would send: a 4xx in the envelope, or the
error of a line, and never a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.batch_stack import BatchStack, batch_stack, line
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check
from tests.integration.gateway.test_edge_bad_images import GENERATED
from tests.integration.gateway.test_edge_bad_vectors import damaged
from tests.integration.gateway.test_edge_vector_stores import error_of

BATCHES = "/v1/batches"
WHOLE: dict[str, Any] = {
    "input_file_id": "file-" + "0" * 24,
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "metadata": {"team": "a"},
    "output_expires_after": {"anchor": "created_at", "seconds": 3600},
}


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[BatchStack]:
    """An edge that takes batches, and runs none."""
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge(batch_concurrency=0)
        yield stack


@pytest.fixture
async def body(idle: BatchStack) -> dict[str, Any]:
    return WHOLE | {"input_file_id": await idle.upload([line(0)])}


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    if answer.status_code != 200:
        check(answer)


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode("utf-8", "replace")


async def test_the_whole_body_is_a_good_one(idle: BatchStack, body: dict[str, Any]) -> None:
    answer = await idle.http.post(BATCHES, json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("change", "param", "status"),
    [
        ({"input_file_id": None}, "input_file_id", 400),
        ({"input_file_id": "file-unknown"}, "input_file_id", 404),
        ({"input_file_id": "file-" + "0" * 24}, "input_file_id", 404),
        ({"input_file_id": "a/b"}, "input_file_id", 404),
        ({"endpoint": None}, "endpoint", 400),
        ({"endpoint": "/v1/images/generations"}, "endpoint", 400),
        ({"completion_window": "1h"}, "completion_window", 400),
        ({"completion_window": None}, "completion_window", 400),
        ({"metadata": {"k" * 65: "v"}}, "metadata", 400),
        ({"metadata": {"k": 1}}, "metadata.k", 400),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, None, 400),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, None, 400),
    ],
)
async def test_fields(
    idle: BatchStack, body: dict[str, Any], change: dict[str, Any], param: str | None, status: int
) -> None:
    answer = await idle.http.post(BATCHES, json=body | change)
    assert answer.status_code == status, answer.text
    if param is not None:
        assert error_of(answer, status)["param"] == param


async def test_a_file_for_something_else(idle: BatchStack, body: dict[str, Any]) -> None:
    files = {"file": ("a.jsonl", b"{}")}
    answer = await idle.http.post("/v1/files", data={"purpose": "user_data"}, files=files)
    answer = await idle.http.post(BATCHES, json=body | {"input_file_id": answer.json()["id"]})
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "input_file_id"


@pytest.mark.parametrize("tail", ["", "/cancel"])
async def test_unknown_batches(idle: BatchStack, tail: str) -> None:
    for batch_id in ("batch_" + "0" * 24, "nothing", "batch%2F1"):
        url = f"{BATCHES}/{batch_id}{tail}"
        answer = await (idle.http.post(url) if tail else idle.http.get(url))
        assert answer.status_code == 404, answer.text


async def test_the_same_key_makes_one_batch(idle: BatchStack, body: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "k"}
    made = [await idle.http.post(BATCHES, json=body, headers=headers) for _ in range(2)]
    assert made[0].json()["id"] == made[1].json()["id"]
    other = body | {"metadata": {"x": "y"}}
    answer = await idle.http.post(BATCHES, json=other, headers=headers)
    assert answer.status_code == 409
    assert error_of(answer, 409)["param"] == "Idempotency-Key"


@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(idle: BatchStack, name: str) -> None:
    check(await idle.http.post(BATCHES, content=HORRORS[name]))


@GENERATED
@given(changes=st.dictionaries(st.sampled_from(sorted(WHOLE)), JSON, max_size=3))
async def test_generated_fields(
    idle: BatchStack, body: dict[str, Any], changes: dict[str, Any]
) -> None:
    settle(await idle.http.post(BATCHES, content=encoded(body | changes)))


@GENERATED
@given(bytes_=damaged(encoded(WHOLE)) | st.binary(max_size=64))
async def test_generated_bytes(idle: BatchStack, bytes_: bytes) -> None:
    settle(await idle.http.post(BATCHES, content=bytes_))


@GENERATED
@given(
    query=st.lists(
        st.tuples(
            st.sampled_from(["limit", "after", "x"]),
            st.text(max_size=12) | st.integers().map(str) | st.just("batch_" + "0" * 24),
        ),
        max_size=4,
    )
)
async def test_generated_queries(idle: BatchStack, query: list[tuple[str, str]]) -> None:
    try:
        text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    except UnicodeEncodeError:  # a lone surrogate can't be in a URL
        return
    settle(await idle.http.get(f"{BATCHES}?{text}"))


@GENERATED
@given(
    batch_id=(st.text(min_size=1, max_size=20) | st.binary(min_size=1, max_size=20)).filter(
        lambda one: set(one) - set(".") - set(b".")
    ),
    tail=st.sampled_from(["", "/cancel"]),
)
async def test_generated_ids(idle: BatchStack, batch_id: str | bytes, tail: str) -> None:
    try:
        path = f"{BATCHES}/{quote(batch_id, safe='')}{tail}"
    except UnicodeEncodeError:
        return
    check(await (idle.http.post(path) if tail else idle.http.get(path)))


FIELDS = ["model", "messages", "temperature", "stream", "n", "tools", "max_tokens", "stop"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[BatchStack]:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge()
        yield stack


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(bodies=st.lists(BODIES, min_size=1, max_size=20))
async def test_generated_lines(running: BatchStack, bodies: list[dict[str, Any]]) -> None:
    lines = [line(number) for number in range(len(bodies))]
    for one, changes in zip(lines, bodies, strict=True):
        one["body"] |= changes
    made = await running.create([json.loads(encoded(one)) for one in lines])
    done = await running.until(made["id"], "completed", "failed")
    if done["status"] == "failed":  # a number that JSON doesn't have
        assert {one["code"] for one in done["errors"]["data"]} == {"invalid_json_line"}
        return
    found = await running.lines(done["output_file_id"])
    found += await running.lines(done["error_file_id"])
    assert len(found) == len(bodies)
    for one in found:
        assert one["response"]["status_code"] < 500, one
