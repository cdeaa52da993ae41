"""Parts of the edge's work on batches: requests to itself, and their results as lines."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb

from gateway.batch_answers import LONGEST_RESULT, refused, result_of
from gateway.batch_results import Results
from gateway.context import context_of, open_context
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.inside import InsideAnswer, post_inside

REFUSE = OpenAIDialect().envelope
LINE = work_pb.Line(number=3, id="batch_req_a", custom_id="c-ü", body=b'{"model":"m"}')


def shown(answer: InsideAnswer) -> tuple[work_pb.Result, Any]:
    result = result_of(LINE, answer, REFUSE)
    assert b"\n" not in result.line
    return result, json.loads(result.line)


@pytest.mark.parametrize(
    ("status", "failed"), [(200, False), (302, False), (400, True), (500, True)]
)
def test_a_result_has_the_answer_in_it(status: int, failed: bool) -> None:
    body = b'{"a": 1.10, "b":\n"\xc3\xbc"}'
    result, line = shown(InsideAnswer(status, {"x-request-id": "req_1"}, body))
    assert result.failed is failed
    assert result.number == 3
    assert line == {
        "id": "batch_req_a",
        "custom_id": "c-ü",
        "response": {
            "status_code": status,
            "request_id": "req_1",
            "body": {"a": 1.1, "b": "ü"},
        },
        "error": None,
    }


@pytest.mark.parametrize("body", [b"", b"not\njson", b"{", b"\xff"])
def test_what_is_no_json_becomes_a_text(body: bytes) -> None:
    _, line = shown(InsideAnswer(500, {}, body))
    assert line["response"]["body"] == body.decode("utf-8", "replace")


def test_an_answer_that_is_too_long_is_an_error() -> None:
    result, line = shown(InsideAnswer(200, {}, b'"' + b"x" * LONGEST_RESULT + b'"'))
    assert result.failed
    assert line["response"]["status_code"] == 413


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"stream":true}', True),
        (b'{"stream":false}', False),
        (b'{"stream":null}', False),
        (b'{"stream":1}', False),
        (b'{"stream":', False),
        (b"[]", False),
        (b"{}", False),
    ],
)
def test_streams_are_refused(body: bytes, wrong: bool) -> None:
    problem = refused(work_pb.Line(body=body))
    assert (problem is not None) is wrong
    if problem is not None:
        assert (problem.status, problem.param) == (400, "stream")


async def test_a_request_inside_looks_like_one_from_outside() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        open_context(scope)
        seen["context"] = context_of(scope)
        seen["path"], seen["method"] = scope["path"], scope["method"]
        seen["message"] = await receive()
        seen["next"] = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 201, "headers": [(b"X-A", b"1")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    answer = await post_inside(app, "/v1/x", b"{}", authorization="Bearer s", request_id="req_1")
    assert (answer.status, answer.headers, answer.body) == (201, {"x-a": "1"}, b"ab")
    context = seen["context"]
    assert context.background
    assert context.request_id == "req_1"
    assert context.headers["authorization"] == "Bearer s"
    assert (seen["path"], seen["method"]) == ("/v1/x", "POST")
    assert seen["message"]["body"] == b"{}"
    await asyncio.sleep(0)
    assert not seen["next"].done()  # this client never leaves
    seen["next"].cancel()


async def test_no_answer_is_a_failure() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(RuntimeError):
        await post_inside(app, "/", b"", authorization=None, request_id="r")


def test_a_scope_of_a_connection_is_not_in_the_background() -> None:
    headers = [(b"penstock.background", b"true")]
    assert not open_context({"headers": headers}).background
    assert not open_context({"headers": headers, "penstock.background": "true"}).background


async def test_results_share_messages_within_bounds() -> None:
    results = Results()
    sizes = [1, 1, 5 * 1024 * 1024, 5 * 1024 * 1024, 20 * 1024 * 1024, 1]
    waiting = [
        asyncio.ensure_future(results.put(work_pb.Result(number=n, line=b"x" * size)))
        for n, size in enumerate(sizes)
    ]
    await asyncio.sleep(0)
    taken: list[list[int]] = []
    while sum(map(len, taken)) < len(sizes):
        some = await results.next()
        taken.append([one.number for one in some])
        assert not any(waiting[one.number].done() for one in some)
        results.noted(some, work_pb.LeaseStanding(finished=len(taken) == 4))
    await asyncio.gather(*waiting)
    assert taken == [[0, 1, 2], [3], [4], [5]]
    assert results.finished
