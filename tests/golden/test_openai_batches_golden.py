"""Golden files of batches: request → gRPC request, batch or page → JSON.

A folder's name begins with what it is. `request.json`, `batch.json` and `page.json` are written by
hand; the rest by `make golden`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from penstock.training.v1 import batch_pb2, batch_service_pb2

from gateway.dialects.openai import batch_answers as answers
from gateway.dialects.openai import batch_schema as schema
from gateway.dialects.openai import batch_translate as translate
from tests.golden.test_openai_golden import Golden

FOLDER = Path(__file__).parent / "openai_batches"


def names(kind: str) -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.name.startswith(kind))


def opened(name: str, config: pytest.Config) -> Golden:
    return Golden(FOLDER / name, config.getoption("--update-golden"))


def check_json(golden: Golden, answer: Any) -> None:
    golden.check("answer.json", msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")


@pytest.mark.parametrize("name", names("batch-"))
def test_request(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    body = msgspec.json.decode(golden.read("request.json"), type=schema.BatchCreate)
    request = translate.to_create_request(body, "key-1")
    found = json_format.MessageToDict(request, preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


@pytest.mark.parametrize("name", names("batch-"))
def test_batch(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    batch = json_format.ParseDict(json.loads(golden.read("batch.json")), batch_pb2.Batch())
    check_json(golden, answers.batch_object(batch))


@pytest.mark.parametrize("name", names("page-"))
def test_page(name: str, pytestconfig: pytest.Config) -> None:
    golden = opened(name, pytestconfig)
    page = batch_service_pb2.ListBatchesResponse()
    check_json(
        golden,
        answers.batch_list(json_format.ParseDict(json.loads(golden.read("page.json")), page)),
    )
