"""Golden files of botserver's inference: request → gRPC request, what services answer → JSON.

A folder's name says of what kind the model is. `grpc.json` and `answer.json` are rewritten by
`make golden`, the rest is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from penstock.embedding.v1 import embedding_service_pb2
from penstock.image.v1 import image_service_pb2
from penstock.inference.v1 import inference_service_pb2

from gateway.dialects.botserver import inference_answers as answers
from gateway.dialects.botserver import inference_translate as translate
from gateway.tensors import to_tensors
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "botserver").glob("inference-*"))


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> tuple[Golden, str]:
    update = request.config.getoption("--update-golden")
    return Golden(request.param, update), request.param.name.split("-")[1]


def asked(golden: Golden, kind: str) -> Any:
    data = golden.read("request.json")
    body = translate.parse(data)
    if kind == "embedding":
        return translate.to_embed_request(data, body)
    if kind == "image":
        return translate.to_image_request(data, body)
    if kind == "text":
        return translate.to_text_request(data, body.model)
    runtime = inference_service_pb2.RuntimeInfo()
    json_format.Parse(golden.read("runtime.json"), runtime)
    return inference_service_pb2.InferRequest(
        model=body.model,
        tensors=to_tensors(bytes(body.input), runtime.inputs, "input"),
        parameters=translate.to_struct(body.parameters or {}),
    )


def told(golden: Golden, kind: str) -> Any:
    body = translate.parse(golden.read("request.json"))
    response: Any = {
        "embedding": embedding_service_pb2.EmbedResponse,
        "image": image_service_pb2.ImageResponse,
    }.get(kind, inference_service_pb2.InferResponse)()
    json_format.Parse(golden.read("response.json"), response)
    if kind == "embedding":
        return answers.of_vector(response, body.model)
    if kind == "image":
        return answers.of_image(response, body.model)
    if kind == "text":
        return answers.of_text(response, body.model)
    return answers.of_tensors(response, body.model, named=translate.is_named(body))


def test_request(case: tuple[Golden, str]) -> None:
    golden, kind = case
    found = json_format.MessageToDict(asked(golden, kind), preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_answer(case: tuple[Golden, str]) -> None:
    golden, kind = case
    golden.check(
        "answer.json", msgspec.json.format(msgspec.json.encode(told(golden, kind))) + b"\n"
    )
