"""Golden files of fine-tuning: request → gRPC request, job or page → JSON, events → SSE bytes.

A folder's name begins with what it is. `request.json`, `job.json`, `page.json` and `events.json`
are written by hand; the rest by `make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2  # noqa: F401 - known to json_format so
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import fine_tuning_answers as answers
from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.dialects.openai import fine_tuning_translate as translate
from gateway.dialects.openai.fine_tuning_stream import JobEventStream
from gateway.errors import from_status
from tests.golden.test_openai_golden import Golden

FOLDER = Path(__file__).parent / "openai_fine_tuning"
PAGES: dict[str, tuple[type[Any], Any]] = {
    "page-events": (service_pb2.ListEventsResponse, answers.event_list),
    "page-checkpoints": (service_pb2.ListCheckpointsResponse, answers.checkpoint_list),
}


def names(kind: str) -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.name.startswith(kind))


def opened(name: str, config: pytest.Config) -> Golden:
    return Golden(FOLDER / name, config.getoption("--update-golden"))


def check_json(golden: Golden, answer: Any) -> None:
    golden.check("answer.json", msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")


@pytest.mark.parametrize("name", names("job-"))
def test_request(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    body = msgspec.json.decode(golden.read("request.json"), type=schema.FineTuningJobCreate)
    request = translate.to_start_request(body, "key-1")
    found = json_format.MessageToDict(request, preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


@pytest.mark.parametrize("name", names("job-"))
def test_job(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    job = json_format.ParseDict(json.loads(golden.read("job.json")), job_pb2.Job())
    check_json(golden, answers.job_object(job))


@pytest.mark.parametrize("name", names("page-"))
def test_page(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    kind, render = PAGES[name]
    check_json(golden, render(json_format.ParseDict(json.loads(golden.read("page.json")), kind())))


@pytest.mark.parametrize("name", names("stream-"))
def test_stream(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    stream = JobEventStream("ftjob-1")
    frames: list[bytes] = []
    for event in json.loads(golden.read("events.json")):
        assert not stream.finished
        if "error" in event:
            status = json_format.ParseDict(event["error"], status_pb2.Status())
            frames.append(stream.fail(from_status(status)))
        else:
            frames += stream.feed(json_format.ParseDict(event, service_pb2.WatchJobEvent()))
    assert stream.finished
    shown = [frame for frame in frames if frame]
    for frame in shown:
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2
    golden.check("stream.sse", b"".join(shown))
