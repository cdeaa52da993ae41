"""Golden files of images: request → gRPC request, events → SSE bytes or the whole answer.

A folder's name says what it is. `request.json` and `events.json` are written by hand; the rest by
`make golden`. A form stands as the JSON of its texts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2  # noqa: F401 - known to json_format so
from penstock.image.v1 import progress_pb2

from gateway.dialects.openai import image_schema, image_translate
from gateway.dialects.openai.image_answers import Labels, WholeImages
from gateway.dialects.openai.image_stream import ImageStream
from gateway.errors import from_status
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "openai_images").iterdir())
IMAGE, MASK = b"image", b"mask"
KINDS: dict[str, tuple[type[Any], Any]] = {
    "generation": (image_schema.ImageGeneration, image_translate.to_generation),
    "edit": (
        image_schema.ImageEditOptions,
        lambda body: image_translate.to_edit(body, IMAGE, None),
    ),
    "masked-edit": (
        image_schema.ImageEditOptions,
        lambda body: image_translate.to_edit(body, IMAGE, MASK),
    ),
    "variation": (
        image_schema.ImageVariationOptions,
        lambda body: image_translate.to_variation(body, IMAGE),
    ),
}


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> tuple[Golden, str]:
    kind = next(kind for kind in KINDS if request.param.name.startswith(kind))
    return Golden(request.param, request.config.getoption("--update-golden")), kind


def test_request(case: tuple[Golden, str]) -> None:
    golden, kind = case
    schema, translate = KINDS[kind]
    request = translate(msgspec.json.decode(golden.read("request.json"), type=schema))
    found = json_format.MessageToDict(request, preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_answer(case: tuple[Golden, str]) -> None:
    golden, kind = case
    body = msgspec.json.decode(golden.read("request.json"), type=KINDS[kind][0])
    labels = Labels.of(body)
    events = json.loads(golden.read("events.json"))
    if not body.stream:
        whole = WholeImages(labels)
        for event in events:
            assert not whole.finished
            whole.add(json_format.ParseDict(event, progress_pb2.ImageEvent()))
        assert whole.finished
        answer = b"".join(whole.pieces())
        golden.check("answer.json", msgspec.json.format(answer, indent=2) + b"\n")
        return
    prefix = "image_generation" if kind == "generation" else "image_edit"
    spelling = image_translate.image_spelling(body)
    several = (body.n or 1) > 1
    stream = ImageStream(prefix, labels, several=several, spelling=spelling)
    frames: list[bytes] = []
    for event in events:
        assert not stream.finished
        if "error" in event:
            status = json_format.ParseDict(event["error"], status_pb2.Status())
            frames.append(stream.fail(from_status(status)))
        else:
            frames += stream.feed(json_format.ParseDict(event, progress_pb2.ImageEvent()))
    assert stream.finished
    shown = [frame for frame in frames if frame]
    for frame in shown:
        assert frame.startswith((b"event: ", b"data: {"))
        assert frame.endswith(b"\n\n")
    golden.check("stream.sse", b"".join(shown))
