"""Golden files of the OpenAI dialect: request → gRPC request, events → SSE bytes, answer → JSON.

`request.json`, `events.json` and `response.json` are written by hand; the rest by `make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401 - known to json_format by being imported
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import inference_service_pb2

from gateway.dialects.openai import schema
from gateway.dialects.openai.answers import chat_completion, completion
from gateway.dialects.openai.chat_stream import ChatStream
from gateway.dialects.openai.completion_stream import CompletionStream
from gateway.dialects.openai.translate import to_chat_request, to_complete_request
from gateway.errors import from_status
from gateway.streams import Renderer

CASES = sorted(path for path in (Path(__file__).parent / "openai").iterdir() if path.is_dir())


class Golden:
    def __init__(self, folder: Path, update: bool) -> None:
        self._folder = folder
        self._update = update

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def check(self, name: str, data: bytes) -> None:
        if self._update:
            (self._folder / name).write_bytes(data)
        assert self.has(name), f"{name} is missing: run `make golden` and read what it wrote"
        assert data == self.read(name)


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def parsed(golden: Golden) -> schema.ChatCompletionRequest | schema.CompletionRequest:
    data = golden.read("request.json")
    if b'"messages"' in data:
        return msgspec.json.decode(data, type=schema.ChatCompletionRequest)
    return msgspec.json.decode(data, type=schema.CompletionRequest)


def fed(renderer: Renderer, golden: Golden) -> list[bytes]:
    """What a renderer makes of the events of a case, all of them."""
    frames: list[bytes] = []
    for event in json.loads(golden.read("events.json")):
        assert not renderer.finished
        update = json_format.ParseDict(event, step_service_pb2.StepUpdate())
        kind = update.WhichOneof("update")
        if kind == "text":
            frames.append(renderer.text(update.text))
        elif kind == "error":
            frames.append(renderer.fail(from_status(update.error)))
        else:
            frames.extend(renderer.feed(update))
    assert renderer.finished
    return frames


def test_request(golden: Golden) -> None:
    body = parsed(golden)
    if isinstance(body, schema.ChatCompletionRequest):
        request = to_chat_request(body)
    else:
        request = to_complete_request(body)
    document = json.loads(json_format.MessageToJson(request, preserving_proto_field_name=True))
    golden.check("grpc.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def test_stream(golden: Golden) -> None:
    body = parsed(golden)
    if isinstance(body, schema.ChatCompletionRequest):
        renderer = ChatStream.of(body)
    else:
        renderer = CompletionStream.of(body)
    frames = fed(renderer, golden)
    for frame in frames:
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2
    golden.check("stream.sse", b"".join(frames))


def test_answer(golden: Golden) -> None:
    if not golden.has("response.json"):
        pytest.skip("streamed only")
    body = parsed(golden)
    data = golden.read("response.json").decode()
    if isinstance(body, schema.ChatCompletionRequest):
        chat = json_format.Parse(data, inference_service_pb2.ChatResponse())
        answer = msgspec.json.encode(chat_completion(chat, body))
    else:
        texts = json_format.Parse(data, inference_service_pb2.CompleteResponse())
        answer = msgspec.json.encode(completion(texts, body))
    golden.check("answer.json", msgspec.json.format(answer, indent=2) + b"\n")
