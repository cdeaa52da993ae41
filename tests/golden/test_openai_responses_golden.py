"""Golden files of responses: request → gRPC request, events → SSE bytes, answer → JSON.

`request.json`, `events.json` and `response.json` are written by hand; the rest by `make golden`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401 - known to json_format by being imported
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import inference_service_pb2

from gateway.dialects.openai.response_answers import response_object
from gateway.dialects.openai.response_object import Draft
from gateway.dialects.openai.response_schema import ResponseCreate
from gateway.dialects.openai.response_stream import ResponseStream
from gateway.dialects.openai.response_translate import (
    Translation,
    check,
    entries_of,
    to_chat_request,
    wants_logprobs,
)
from gateway.errors import from_status
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "openai_responses").iterdir())


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def counting() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def clock() -> float:
    return 1702345680.25


def parsed(golden: Golden) -> tuple[ResponseCreate, Translation]:
    body = msgspec.json.decode(golden.read("request.json"), type=ResponseCreate)
    check(body)
    return body, to_chat_request(body, entries_of(body))


def test_request(golden: Golden) -> None:
    _, translation = parsed(golden)
    found = json_format.MessageToDict(translation.request, preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_stream(golden: Golden) -> None:
    body, translation = parsed(golden)
    stream = ResponseStream(
        Draft(body, "resp_1"),
        scored=wants_logprobs(body),
        kept=bool(body.store),
        spelling=translation.spell,
        make_id=counting(),
        clock=clock,
    )
    frames: list[bytes] = []
    for event in json.loads(golden.read("events.json")):
        assert not stream.finished
        update = json_format.ParseDict(event, step_service_pb2.StepUpdate())
        kind = update.WhichOneof("update")
        text = stream.text(update.text) if kind == "text" else None
        if text is not None:
            frames.append(text)
        elif kind == "error":
            frames.append(stream.fail(from_status(update.error)))
        else:
            frames.extend(stream.feed(update))
    assert stream.finished
    if stream.response is not None and body.store:
        frames.append(stream.completed())
    for frame in frames:
        assert frame.startswith(b"event: ")
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 3
    golden.check("stream.sse", b"".join(frames))


def test_answer(golden: Golden) -> None:
    if not golden.has("response.json"):
        pytest.skip("streamed only")
    body, _ = parsed(golden)
    chat = json_format.Parse(golden.read("response.json"), inference_service_pb2.ChatResponse())
    response = response_object(chat, Draft(body, "resp_1"), make_id=counting(), clock=clock)
    answer = msgspec.json.encode(response)
    golden.check("answer.json", msgspec.json.format(answer, indent=2) + b"\n")
