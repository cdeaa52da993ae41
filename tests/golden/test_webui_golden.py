"""Golden files of the WebUI's dialect: request → gRPC request, events → JSON.

A folder's name says what it is. `request.json` and `events.json` are written by hand; the rest by
`make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from penstock.image.v1 import progress_pb2, sampler_pb2

from gateway.dialects.webui import schema, translate
from gateway.dialects.webui.drawings import Drawings
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "webui").iterdir())
SCHEMAS = {"txt2img": schema.Txt2ImgRequest, "img2img": schema.Img2ImgRequest}
NOW = sampler_pb2.Options()


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> tuple[Golden, str]:
    update = request.config.getoption("--update-golden")
    return Golden(request.param, update), request.param.name


def parsed(golden: Golden, name: str) -> Any:
    data = golden.read("request.json")
    kind = SCHEMAS.get(name.partition("-")[0])
    if kind is not None:
        return translate.filled(msgspec.json.decode(data, type=kind))
    body = msgspec.json.decode(data, type=schema.GenerateImageRequest)
    return translate.from_generate_image(body)


def test_request(case: tuple[Golden, str]) -> None:
    golden, name = case
    request, wishes = translate.to_image_request(parsed(golden, name))
    translate.take_options(request, wishes, NOW, ())
    found = json_format.MessageToDict(request, preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_answer(case: tuple[Golden, str]) -> None:
    golden, name = case
    body = parsed(golden, name)
    drawings = Drawings(keep=body.send_images is not False)
    for event in json.loads(golden.read("events.json")):
        drawings.add(json_format.ParseDict(event, progress_pb2.ImageEvent()))
    pieces = drawings.only() if name == "generate-image" else drawings.answer(body)
    golden.check("answer.json", msgspec.json.format(b"".join(pieces), indent=2) + b"\n")
