"""Golden files of Ollama's dialect: request → gRPC request, events → lines, answer → JSON.

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

from gateway.dialects.ollama import answers, schema, translate
from gateway.dialects.ollama.line_stream import LineStream
from gateway.steps import TextRequest
from tests.golden.test_openai_golden import Golden, fed

CASES = sorted((Path(__file__).parent / "ollama").iterdir())

Body = schema.OllamaChatRequest | schema.OllamaGenerateRequest


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def parsed(golden: Golden) -> Body:
    data = golden.read("request.json")
    if b'"messages"' in data:
        return msgspec.json.decode(data, type=schema.OllamaChatRequest)
    return msgspec.json.decode(data, type=schema.OllamaGenerateRequest)


def translated(body: Body) -> TextRequest:
    if isinstance(body, schema.OllamaChatRequest):
        return translate.to_chat_request(body)
    if translate.continues(body):
        return translate.to_complete_request(body)
    return translate.to_answer_request(body)


def test_request(golden: Golden) -> None:
    request = translated(parsed(golden))
    document = json.loads(json_format.MessageToJson(request, preserving_proto_field_name=True))
    golden.check("grpc.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def test_stream(golden: Golden) -> None:
    lines = b"".join(fed(LineStream(parsed(golden), translate.chat_spelling), golden))
    assert lines.decode().splitlines() == [line.decode() for line in lines.split(b"\n")[:-1]]
    for line in lines.splitlines():
        json.loads(line)
    golden.check("stream.ndjson", lines)


def test_answer(golden: Golden) -> None:
    if not golden.has("response.json"):
        pytest.skip("streamed only")
    body = parsed(golden)
    data = golden.read("response.json").decode()
    answer: object
    if isinstance(body, schema.OllamaChatRequest):
        chat = json_format.Parse(data, inference_service_pb2.ChatResponse())
        answer = answers.chat(chat, body)
    else:
        kind = (
            inference_service_pb2.CompleteResponse
            if translate.continues(body)
            else inference_service_pb2.ChatResponse
        )
        answer = answers.generated(json_format.Parse(data, kind()), body)
    golden.check("answer.json", msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
