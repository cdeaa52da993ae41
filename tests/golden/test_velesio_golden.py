"""Golden files of completions in llama.cpp's form: request → gRPC request, events → SSE bytes,
answer → JSON.

`request.json`, `events.json` and `response.json` are written by hand; the rest by `make golden`.
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
from penstock.inference.v1 import event_pb2, inference_service_pb2

from gateway.dialects.velesio import sampling, schema, translate
from gateway.dialects.velesio.llama_answers import Evaluated, body_of, completions
from gateway.dialects.velesio.llama_stream import LlamaStream
from gateway.errors import from_status
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "velesio").iterdir())
DRAWN = 4711
"""The seed of requests that want a random one."""


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param, request.config.getoption("--update-golden"))


def parsed(golden: Golden) -> schema.LlamaCompletionRequest:
    return msgspec.json.decode(golden.read("request.json"), type=schema.LlamaCompletionRequest)


def asked(body: schema.LlamaCompletionRequest) -> inference_service_pb2.CompleteRequest:
    translate.refuse_unsupported(body)
    biases, texts = translate.biases_of(body.logit_bias)
    assert not texts
    prompts, _ = translate.prompts_of(body.prompt)
    given = [
        inference_service_pb2.Prompt(text=str(prompt.parts[0]))
        if prompt.is_text
        else translate.token_prompt([part for part in prompt.parts if isinstance(part, int)])
        for prompt in prompts
    ]
    return translate.to_complete_request(body, given, sampling.to_sampling(body, biases, DRAWN))


def counts(body: schema.LlamaCompletionRequest) -> list[int | None]:
    prompts, _ = translate.prompts_of(body.prompt)
    return [len(str(prompt.parts)) if len(prompts) > 1 else None for prompt in prompts]


def test_request(golden: Golden) -> None:
    request = asked(parsed(golden))
    document = json.loads(json_format.MessageToJson(request, preserving_proto_field_name=True))
    golden.check("grpc.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")


def test_stream(golden: Golden) -> None:
    if not golden.has("events.json"):
        pytest.skip("whole only")
    body = parsed(golden)
    renderer = LlamaStream(
        prompt_tokens=counts(body), scored=bool(body.n_probs), fields=body.response_fields
    )
    frames: list[bytes] = []
    for event in json.loads(golden.read("events.json")):
        assert not renderer.finished
        if "error" in event:
            error = json_format.ParseDict(event["error"], status_pb2.Status())
            frames.append(renderer.fail(from_status(error)))
        else:
            frames += renderer.feed(json_format.ParseDict(event, event_pb2.CompleteEvent()))
    assert renderer.finished
    for frame in frames:
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2
        assert frame.count(b"data: ") == 1
    golden.check("stream.sse", b"".join(frames))


def test_answer(golden: Golden) -> None:
    if not golden.has("response.json"):
        pytest.skip("streamed only")
    body = parsed(golden)
    request = asked(body)
    _, many = translate.prompts_of(body.prompt)
    data = golden.read("response.json").decode()
    response = json_format.Parse(data, inference_service_pb2.CompleteResponse())
    prompts = [Evaluated(f"prompt {n}", count) for n, count in enumerate(counts(body))]
    settings = sampling.settings_of(body, request.sampling, request.guide.gbnf)
    found = completions(response, prompts, settings, with_tokens=bool(body.return_tokens))
    answer = body_of(found, body.response_fields, listed=many)
    golden.check("answer.json", msgspec.json.format(answer, indent=2) + b"\n")
