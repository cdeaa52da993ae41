"""Golden files of Anthropic's dialect: request → gRPC request, events → SSE bytes, answer → JSON.

`request.json`, `events.json` and `response.json` are written by hand; the rest by `make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401 - known to json_format by being imported
from penstock.inference.v1 import inference_service_pb2

from gateway.dialects.anthropic import schema
from gateway.dialects.anthropic.answers import message
from gateway.dialects.anthropic.message_stream import MessageStream
from gateway.dialects.anthropic.translate import to_chat_request
from tests.golden.test_openai_golden import Golden, fed

CASES = sorted((Path(__file__).parent / "anthropic").iterdir())


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def parsed(golden: Golden) -> schema.MessagesRequest:
    return msgspec.json.decode(golden.read("request.json"), type=schema.MessagesRequest)


def test_request(golden: Golden) -> None:
    request, _ = to_chat_request(parsed(golden))
    document = json.loads(json_format.MessageToJson(request, preserving_proto_field_name=True))
    golden.check("grpc.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def test_stream(golden: Golden) -> None:
    body = parsed(golden)
    frames = fed(MessageStream(body, "req_1", to_chat_request(body)[1]), golden)
    for event in b"".join(frames).split(b"\n\n")[:-1]:
        kind, data = event.split(b"\n")
        assert kind == b"event: " + json.loads(data.removeprefix(b"data: "))["type"].encode()
    golden.check("stream.sse", b"".join(frames))


def test_answer(golden: Golden) -> None:
    if not golden.has("response.json"):
        pytest.skip("streamed only")
    data = golden.read("response.json").decode()
    response = json_format.Parse(data, inference_service_pb2.ChatResponse())
    answer = msgspec.json.encode(message(response, parsed(golden)))
    golden.check("answer.json", msgspec.json.format(answer, indent=2) + b"\n")
