"""Golden files of Gel's dialect: request → gRPC request, events → SSE bytes, events → JSON.

`request.json` and `events.json` are written by hand; the rest by `make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import (
    error_details_pb2,  # noqa: F401 - known to json_format by being imported
    status_pb2,
)
from penstock.retrieval.v1 import answer_pb2

from gateway.dialects.gel import schema
from gateway.dialects.gel.answer_stream import AnswerStream
from gateway.dialects.gel.answers import WholeAnswer
from gateway.dialects.gel.checks import check_rag
from gateway.dialects.gel.translate import to_answer_request, wants_logprobs
from gateway.errors import from_status
from tests.golden.test_openai_golden import Golden

CASES = sorted(path for path in (Path(__file__).parent / "gel").iterdir() if path.is_dir())


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def parsed(golden: Golden) -> schema.RagRequest:
    data = golden.read("request.json")
    check_rag(data)
    return msgspec.json.decode(data, type=schema.RagRequest)


def test_gel_request(golden: Golden) -> None:
    request = to_answer_request(parsed(golden), "default")
    document = json.loads(json_format.MessageToJson(request, preserving_proto_field_name=True))
    golden.check("grpc.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def test_gel_stream(golden: Golden) -> None:
    body = parsed(golden)
    renderer = AnswerStream(body.model, scored=wants_logprobs(body))
    frames: list[bytes] = []
    for event in json.loads(golden.read("events.json")):
        assert not renderer.finished
        if "error" in event:
            status = json_format.ParseDict(event["error"], status_pb2.Status())
            frames.append(renderer.fail(from_status(status)))
        else:
            frames += renderer.feed(json_format.ParseDict(event, answer_pb2.AnswerEvent()))
    assert renderer.finished
    for frame in frames:
        name, data, *rest = frame.split(b"\n")
        assert name == b"event: " + json.loads(data.removeprefix(b"data: "))["type"].encode()
        assert rest == [b"", b""]
    golden.check("stream.sse", b"".join(frames))


def test_gel_answer(golden: Golden) -> None:
    body = parsed(golden)
    whole = WholeAnswer(body.model, scored=wants_logprobs(body))
    for event in json.loads(golden.read("events.json")):
        if "error" in event:
            assert not whole.finished
            return
        whole.add(json_format.ParseDict(event, answer_pb2.AnswerEvent()))
    assert whole.finished
    golden.check("answer.json", msgspec.json.format(whole.body(), indent=2) + b"\n")
