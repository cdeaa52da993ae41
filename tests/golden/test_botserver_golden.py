"""Golden files of botserver's dialect: request → gRPC request, what services tell → JSON.

A folder's name says what it is. `grpc.json` and `…answer.json` are rewritten by `make golden`, the
rest is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from penstock.model.v1 import model_pb2
from penstock.training.v1 import job_pb2

from gateway.dialects.botserver import (
    model_answers,
    model_schema,
    model_translate,
    training_answers,
    training_schema,
    training_translate,
)
from tests.golden.test_openai_golden import Golden

CASES = sorted(
    path
    for path in (Path(__file__).parent / "botserver").iterdir()
    if not path.name.startswith("inference")
)


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> tuple[Golden, str]:
    update = request.config.getoption("--update-golden")
    return Golden(request.param, update), request.param.name.partition("-")[0]


def told(golden: Golden, name: str, message: Any) -> Any:
    return json_format.Parse(golden.read(name), message)


def asked(golden: Golden, kind: str) -> Any:
    data = golden.read("request.json")
    if kind == "training":
        body = msgspec.json.decode(data, type=training_schema.TrainingStart)
        return training_translate.to_start_request(body, "once")
    if kind == "deploy":
        deploy = msgspec.json.decode(data, type=model_schema.ModelDeploy)
        return model_translate.to_deploy_request(deploy, "once")
    update = model_translate.parse_config(data)
    model = told(golden, "model.json", model_pb2.Model())
    etag = model_translate.etag_of(None, update.version)
    return model_translate.to_update_request(update.config, model, etag)


def test_request(case: tuple[Golden, str]) -> None:
    golden, kind = case
    found = json_format.MessageToDict(asked(golden, kind), preserving_proto_field_name=True)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_answer(case: tuple[Golden, str]) -> None:
    golden, kind = case
    if kind == "training":
        job = told(golden, "job.json", job_pb2.Job())
        answers = {
            "start-answer.json": training_answers.started(job),
            "status-answer.json": training_answers.status(job),
        }
    else:
        model = told(golden, "model.json", model_pb2.Model())
        if kind == "deploy":
            answers = {"answer.json": model_answers.model_item(model)}
        else:
            config = told(golden, "config.json", model_pb2.ModelConfig())
            answers = {"answer.json": model_answers.model_config(model, config)}
    for name, answer in answers.items():
        golden.check(name, msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
