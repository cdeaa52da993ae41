"""Limits at the edge and behind it: exact, told in headers, and never counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

from policy.vouchers import Vouchers
from services.rpc.call import Call, serving
from services.rpc.channels import channel
from telemetry.tracing import continue_trace
from tests.integration.gateway.limits_platform import (
    MODEL,
    SERVICE_TOKEN,
    SLOW,
    TOKENS,
    LimitsPlatform,
    chat,
    limits_platform,
    rpc_chat,
)
from tests.redis_server import RedisServer, running_redis

PATH = "/v1/chat/completions"
ADA = (("authorization", f"Bearer {TOKENS[0]}"),)
BOB = (("authorization", f"Bearer {TOKENS[1]}"),)
PATIENCE_S = 60.0
WENT = re.compile(r"queue for ([\d.]+) s and ran for ([\d.]+) s, in which (\d+) tokens")
GO = re.compile(r"(\d+m)?([\d.]+s|\d+ms)")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """An empty one."""
    server.kill()
    server.start()
    return server


async def post(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post(PATH, json=chat(**body))


async def flood(platform: LimitsPlatform, clients: int, **body: Any) -> Counter[int]:
    """So many clients at once, spread over all edges."""
    asked = [post(platform.edges[n % len(platform.edges)], **body) for n in range(clients)]
    answers = await asyncio.gather(*asked)
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert 0 <= int(answer.headers["retry-after-ms"]) <= 60_000
    return Counter(answer.status_code for answer in answers)


async def idle(platform: LimitsPlatform) -> None:
    until = time.monotonic() + PATIENCE_S
    while platform.running():
        assert time.monotonic() < until, "something runs on"
        await asyncio.sleep(0.01)


async def tokens_left(platform: LimitsPlatform) -> int:
    """What the principal has left, by the headers of a small request."""
    answer = await post(platform.http, text="x", max_tokens=1)
    assert answer.status_code == 200
    used = answer.json()["usage"]["total_tokens"]
    reserved = answer.json()["usage"]["prompt_tokens"] + 1
    assert used <= reserved
    return int(answer.headers["x-ratelimit-remaining-tokens"]) + reserved


async def test_200_clients_get_as_many_answers_as_the_limit_says(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={"requests_per_minute": 37}) as platform:
        assert await flood(platform, 200) == {200: 37, 429: 163}
        bob = {"authorization": f"Bearer {TOKENS[1]}"}
        answer = await platform.http.post(PATH, json=chat(), headers=bob)
        assert answer.status_code == 200, "others have limits of their own"
        # What the edge counted, the service did not: direct calls have all that is theirs.
        for remaining in ("36", "35"):
            call = platform.inference.Chat(rpc_chat(), metadata=ADA)
            await call
            told = dict(await call.trailing_metadata())
            assert told["x-ratelimit-remaining-requests"] == remaining


async def test_200_clients_get_as_many_places_as_there_are(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={"concurrent_requests": 9}) as platform:
        body = chat(model=SLOW, text="y" * 200, max_tokens=200, stream=True)
        async with contextlib.AsyncExitStack() as stack:
            asked = [
                stack.enter_async_context(platform.http.stream("POST", PATH, json=body))
                for _ in range(200)
            ]
            answers = await asyncio.gather(*asked)
            assert Counter(answer.status_code for answer in answers) == {200: 9, 429: 191}
            refused = next(answer for answer in answers if answer.status_code == 429)
            problem = json.loads(await refused.aread())
            assert "9 requests at once" in problem["error"]["message"]
        # All have left: their places are free again.
        await idle(platform)
        until = time.monotonic() + PATIENCE_S
        while (await flood(platform, 9))[429]:
            assert time.monotonic() < until


@pytest.mark.parametrize("stream", [False, True])
async def test_a_place_is_free_once_the_answer_is_there(tmp_path: Path, stream: bool) -> None:
    async with limits_platform(tmp_path, limits={"concurrent_requests": 1}) as platform:
        for _ in range(25):
            answer = await post(platform.http, stream=stream)
            assert answer.status_code == 200


async def test_two_edges_share_one_redis(tmp_path: Path, redis: RedisServer) -> None:
    limits = {"requests_per_minute": 41, "tokens_per_minute": 100_000}
    async with limits_platform(tmp_path, edges=2, redis_url=redis.url, limits=limits) as platform:
        assert await flood(platform, 200) == {200: 41, 429: 159}
        # Who calls the service itself has used up the same limit.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform.inference.Chat(rpc_chat(), metadata=ADA)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await platform.inference.Chat(rpc_chat(), metadata=BOB)


async def test_tokens_of_200_clients_stay_within_the_limit(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={"tokens_per_minute": 3000}) as platform:
        counts = await flood(platform, 200, text="z" * 30, max_tokens=30)
        assert set(counts) == {200, 429}
        records = [record for record in platform.records() if record.outcome == "ok"]
        assert len(records) == counts[200]
        used = sum(record.prompt_tokens + record.completion_tokens for record in records)
        assert used <= 3000
        assert await tokens_left(platform) == 3000 - used
        before = 3000 - used
        answer = await post(platform.http, max_tokens=2999)
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "tokens"
        assert "ask for fewer" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert await tokens_left(platform) < before, "and what was refused cost nothing"


async def test_what_is_told_in_headers(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 10, "tokens_per_minute": 2000}
    async with limits_platform(tmp_path, limits=limits) as platform:
        for asked, stream in enumerate((False, True), start=1):
            answer = await post(platform.http, text="hi", max_tokens=20, stream=stream)
            headers = answer.headers
            assert headers["x-ratelimit-limit-requests"] == "10"
            assert headers["x-ratelimit-remaining-requests"] == str(10 - asked)
            assert headers["x-ratelimit-limit-tokens"] == "2000"
            assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 1980
            for of in ("requests", "tokens"):
                assert GO.fullmatch(headers[f"x-ratelimit-reset-{of}"])
        for stream in (False, True):
            body = chat("hi", stream=stream)
            headers = (await platform.http.post("/v1/messages", json=body)).headers
            for of, limit in (("requests", "10"), ("tokens", "2000")):
                family = f"anthropic-ratelimit-{of}"
                assert headers[f"{family}-limit"] == limit
                assert 0 < int(headers[f"{family}-remaining"]) < int(limit)
                datetime.strptime(headers[f"{family}-reset"], "%Y-%m-%dT%H:%M:%SZ")
        greedy = await platform.http.post("/v1/messages", json=chat("hi", max_tokens=1999))
        assert greedy.json()["error"]["type"] == "rate_limit_error"
        call = platform.inference.Chat(rpc_chat("hi"), metadata=ADA)
        await call
        told = dict(await call.trailing_metadata())
        assert told["x-ratelimit-limit-tokens"] == "2000"
        assert int(told["x-ratelimit-remaining-tokens"]) < 1980
        assert told["x-ratelimit-remaining-requests"] == "9"
        stream_call = platform.inference.StreamChat(rpc_chat("hi"), metadata=ADA)
        async for _ in stream_call:
            pass
        assert "x-ratelimit-remaining-tokens" in dict(await stream_call.trailing_metadata())


async def test_direct_callers_are_limited_with_metadata(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 5, "concurrent_requests": 2}
    async with limits_platform(tmp_path, limits=limits) as platform:
        request = rpc_chat("w" * 100, 100)
        request.model = SLOW
        running = [platform.inference.StreamChat(request, metadata=ADA) for _ in range(2)]
        for call in running:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError, match="2 requests at once"):
            await platform.inference.Chat(rpc_chat(), metadata=ADA)
        for call in running:
            call.cancel()
        await idle(platform)
        codes: list[Any] = []
        while len(codes) < 12:
            try:
                await platform.inference.Chat(rpc_chat(), metadata=ADA)
                codes.append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
                trailing = dict(error.trailing_metadata() or ())
                if "5 requests per minute" in (error.details() or ""):
                    assert trailing["x-ratelimit-remaining-requests"] == "0"
        assert codes.count(grpc.StatusCode.OK) == 3
        # A voucher of somebody else's making, or for another request, helps nobody.
        for forged in ("1.ab", "x", f"{int(time.time())}.{'0' * 64}"):
            metadata = (*ADA, ("x-penstock-counted", forged))
            with pytest.raises(grpc.aio.AioRpcError):
                await platform.inference.Chat(rpc_chat(), metadata=metadata)


async def test_services_vouch_for_what_they_counted(tmp_path: Path) -> None:
    """One service that calls another on a caller's behalf: counted once."""
    async with limits_platform(tmp_path, limits={"requests_per_minute": 2}) as platform:
        principal = platform.authenticator.authenticate(dict(ADA))
        for token, answers in ((SERVICE_TOKEN, 5), ("another", 0)):
            opened = channel(platform.address, vouchers=Vouchers(token))
            stub = InferenceServiceStub(opened)
            call = Call("/a.B/C", "req_1", continue_trace(None), asyncio.Event(), principal)
            with serving(call):
                for _ in range(answers):
                    await stub.Chat(rpc_chat(), metadata=ADA)
                if not answers:
                    for _ in range(2):
                        await stub.Chat(rpc_chat(), metadata=ADA)
                    with pytest.raises(grpc.aio.AioRpcError, match="2 requests per minute"):
                        await stub.Chat(rpc_chat(), metadata=ADA)
            await opened.close()


async def test_streams_that_are_cut_short_are_settled(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={"tokens_per_minute": 5000}) as platform:
        body = chat(model=SLOW, text="v" * 300, max_tokens=2000, stream=True)
        async with platform.http.stream("POST", PATH, json=body) as answer:
            assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 3000
            events = answer.aiter_lines()
            for _ in range(12):
                await anext(events)
        await idle(platform)
        until = time.monotonic() + PATIENCE_S
        while not (records := platform.records()):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert [record.outcome for record in records] == ["cancelled"]
        assert 0 < records[0].completion_tokens < 300
        assert records[0].prompt_tokens > 300
        used = records[0].prompt_tokens + records[0].completion_tokens
        assert await tokens_left(platform) == 5000 - used


async def test_what_is_refused_is_not_on_record(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={"tokens_per_day": 400}) as platform:
        assert (await post(platform.http, max_tokens=20)).status_code == 200
        refused = await post(platform.http, max_tokens=390)
        assert refused.status_code == 429
        assert "tokens per day" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert int(refused.headers["retry-after"]) <= 60
        assert len(platform.records()) == 1


async def test_without_a_service_token_services_count_for_themselves(tmp_path: Path) -> None:
    async with limits_platform(
        tmp_path, limits={"requests_per_minute": 3}, service_token=""
    ) as platform:
        assert await flood(platform, 10) == {200: 3, 429: 7}
        with pytest.raises(grpc.aio.AioRpcError):
            await platform.inference.Chat(rpc_chat(), metadata=ADA)


@pytest.mark.parametrize(
    ("when", "limit", "status"),
    [
        ("closed", "requests_per_minute", 503),
        ("closed_for_tokens", "requests_per_minute", 200),
        ("closed_for_tokens", "tokens_per_minute", 503),
        ("open", "tokens_per_minute", 200),
    ],
)
async def test_redis_away_closes_or_opens(
    tmp_path: Path, redis: RedisServer, when: str, limit: str, status: int
) -> None:
    async with limits_platform(
        tmp_path, redis_url=redis.url, limits={limit: 1000}, when_unavailable=when
    ) as platform:
        assert (await post(platform.http)).status_code == 200
        redis.kill()
        answer = await post(platform.http)
        assert answer.status_code == status
        if status == 503:
            assert "can't be checked now" in answer.json()["error"]["message"]
            assert answer.json()["error"]["code"] == "service_unavailable"
            assert int(answer.headers["retry-after"]) == 1
        redis.start()
        until = time.monotonic() + PATIENCE_S
        while (answer := await post(platform.http)).status_code != 200:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        assert f"x-ratelimit-limit-{limit.partition('_')[0]}" in answer.headers or when != "closed"


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "nan", "1.", "", "0.0", "9" * 40])
async def test_times_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    async with limits_platform(tmp_path, limits={}) as platform:
        answer = await platform.http.post(PATH, json=chat(), headers={"x-request-timeout": value})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "X-Request-Timeout"


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_time_that_is_over_tells_where_it_went(tmp_path: Path, size: int) -> None:
    """Also for requests that have a call of their own."""
    async with limits_platform(tmp_path, limits={}) as platform:
        body = chat(model=SLOW, text="u" * 500, max_tokens=2000, user="x" * 64)
        body["metadata"] = {f"k{n}": "v" * 500 for n in range(4)}
        headers = {"x-request-timeout": "0.5"}
        if size > 1000:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d" * size, "parameters": {}},
                }
            ]
            body["tool_choice"] = "none"
        answer = await platform.http.post(PATH, json=body, headers=headers)
        assert answer.status_code == 504, answer.text
        error = answer.json()["error"]
        assert error["code"] == "timeout"
        if size < 1000:
            found = re.search(
                r"queue for ([\d.]+) s and ran for ([\d.]+) s, in which (\d+) tok", error["message"]
            )
            assert found is not None, error["message"]
            assert float(found[1]) + float(found[2]) == pytest.approx(0.5, abs=0.45)
            assert int(found[3]) > 0
        await idle(platform)


async def test_a_time_that_is_over_in_the_queue_says_so(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={}, request_timeout_s=0.7) as platform:
        call = platform.inference.StreamChat
        request = rpc_chat("t" * 2000, 4000)
        request.model = SLOW
        busy = [call(request, metadata=BOB) for _ in range(16)]
        for one in busy:
            await one.read()
        # The setting is the most: asking for more has no effect.
        answer = await platform.http.post(
            PATH, json=chat(model=SLOW), headers={"x-request-timeout": "500"}
        )
        assert answer.status_code == 504
        assert "in the queue" in answer.json()["error"]["message"]
        assert "never ran" in answer.json()["error"]["message"]
        for one in busy:
            one.cancel()
        await idle(platform)


async def test_direct_callers_hear_where_the_time_went(tmp_path: Path) -> None:
    async with limits_platform(tmp_path, limits={}) as platform:
        request = rpc_chat("s" * 2000, 4000)
        request.model = SLOW
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await platform.inference.Chat(request, metadata=ADA, timeout=1.0)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await idle(platform)
        records = platform.records()
        assert [record.outcome for record in records] == ["deadline_exceeded"]
        assert records[0].model == SLOW != MODEL
