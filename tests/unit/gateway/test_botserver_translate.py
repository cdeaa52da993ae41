"""botserver's requests and answers, translated."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
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
from gateway.dialects.botserver.moments import moment
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

FILE = "file-" + "a" * 24
START = {"base_model": "base", "dataset": FILE}
STARTS = msgspec.json.Decoder(training_schema.TrainingStart)
DEPLOYS = msgspec.json.Decoder(model_schema.ModelDeploy)


def started(body: dict[str, Any]) -> dict[str, Any]:
    request = training_translate.to_start_request(decode(STARTS, json.dumps(body).encode()))
    return json_format.MessageToDict(request.job, preserving_proto_field_name=True)


LEAST = {
    "base_model": "base",
    "training_file": f"files/{FILE}",
    "lora": {},
    "hyperparameters": {"epoch_count": 3},
}


@pytest.mark.parametrize(
    ("more", "job"),
    [
        ({}, {}),
        ({"unknown": [1]}, {}),
        (dict.fromkeys(("epochs", "learning_rate", "batch_size", "method", "suffix")), {}),
        ({"seed": None, "validation_dataset": None}, {}),
        ({"epochs": 50}, {"hyperparameters": {"epoch_count": 50}}),
        ({"learning_rate": 1}, {"hyperparameters": {"epoch_count": 3, "learning_rate": 1.0}}),
        ({"batch_size": 8}, {"hyperparameters": {"epoch_count": 3, "batch_size": 8}}),
        ({"method": "lora"}, {}),
        ({"suffix": ""}, {}),
        ({"suffix": "a" * 64}, {"suffix": "a" * 64}),
        ({"seed": 0}, {"seed": 0}),
        ({"validation_dataset": FILE}, {"validation_file": f"files/{FILE}"}),
        ({"validation_dataset": "held-out"}, {"validation_dataset": "held-out"}),
    ],
)
def test_a_start(more: dict[str, Any], job: dict[str, Any]) -> None:
    assert started(START | more) == LEAST | job


def test_full_training_on_a_dataset() -> None:
    assert started({"base_model": "base", "dataset": "opening-hours", "method": "full"}) == {
        "base_model": "base",
        "training_dataset": "opening-hours",
        "full": {},
        "hyperparameters": {"epoch_count": 3},
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_model": None}, "base_model"),
        ({"base_model": ""}, "base_model"),
        ({"base_model": 5}, "base_model"),
        ({"dataset": ["a"]}, "dataset"),
        ({"dataset": ""}, "dataset"),
        ({"dataset": "x" * 257}, "dataset"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 51}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": "3"}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": 1.5}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"batch_size": 257}, "batch_size"),
        ({"batch_size": False}, "batch_size"),
        ({"method": "sft"}, "lora"),
        ({"method": 1}, "method"),
        ({"suffix": "a" * 65}, "suffix"),
        ({"suffix": {}}, "suffix"),
        ({"validation_dataset": ""}, "validation_dataset"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
    ],
)
def test_wrong_fields(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ProblemError) as raised:
        decode(STARTS, json.dumps(START | change).encode())
    assert raised.value.problem.status == 400
    assert field in raised.value.problem.message


@pytest.mark.parametrize("field", START)
def test_required_fields(field: str) -> None:
    body = {name: value for name, value in START.items() if name != field}
    with pytest.raises(ProblemError, match=field):
        decode(STARTS, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("param", "message", "said"),
    [
        ("job.training_file", "job.training_file is bad.", "dataset is bad."),
        ("job.hyperparameters.epoch_count", "Too many.", "Too many."),
        ("job.base_model", "There is no 'job.base_model'.", "There is no 'base_model'."),
    ],
)
def test_fields_of_the_service_are_respelled(param: str, message: str, said: str) -> None:
    problem = training_translate.spelled(Problem("INVALID_ARGUMENT", message, param))
    assert problem.message == said
    assert problem.param is not None
    assert not problem.param.startswith("job")


def test_every_field_that_is_sent_has_a_spelling() -> None:
    body = START | {
        "epochs": 1, "learning_rate": 0.1, "batch_size": 2, "suffix": "s", "seed": 1,
        "validation_dataset": FILE,
    }  # fmt: skip
    sent = started(body)
    paths = {f"hyperparameters.{name}" for name in sent.pop("hyperparameters")} | set(sent)
    for path in paths:
        assert training_translate.spelled(Problem("INTERNAL", "x", f"job.{path}")).param in body | {
            "method": 1
        }


@pytest.mark.parametrize(
    ("problem", "reason", "param"),
    [
        (Problem("NOT_FOUND", "secret", "name"), "NOT_FOUND", None),
        (Problem("INVALID_ARGUMENT", "x", "name"), "NOT_FOUND", None),
        (Problem("FAILED_PRECONDITION", "x", "name"), "FAILED_PRECONDITION", None),
        (Problem("PERMISSION_DENIED", "x"), "PERMISSION_DENIED", None),
    ],
)
def test_unknown_jobs(problem: Problem, reason: str, param: str | None) -> None:
    told = training_translate.unknown_job(problem, "ftjob-x" * 100)
    assert (told.reason, told.param) == (reason, param)
    assert len(told.message) < 120


State = job_pb2.Job


def job(state: State.State.ValueType = State.STATE_RUNNING, **facts: Any) -> job_pb2.Job:
    made = job_pb2.Job(name="trainingJobs/ftjob-1", state=state, base_model="base", **facts)
    made.create_time.FromSeconds(1_700_000_000)
    return made


@pytest.mark.parametrize(
    ("state", "word", "status"),
    [
        (State.STATE_VALIDATING_FILES, "queued", 202),
        (State.STATE_QUEUED, "queued", 202),
        (State.STATE_RUNNING, "running", 202),
        (State.STATE_PAUSED, "paused", 202),
        (State.STATE_SUCCEEDED, "completed", 202),
        (State.STATE_FAILED, "failed", 202),
        (State.STATE_CANCELLED, "cancelled", 200),
    ],
)
def test_states(state: State.State.ValueType, word: str, status: int) -> None:
    assert training_answers.status(job(state)).status == word
    assert training_answers.started(job(state)).status == word
    assert training_answers.cancel_status(job(state)) == status


def test_every_state_has_a_word() -> None:
    for number in State.State.values():
        assert training_answers.status(job(number)).status


def test_a_running_job() -> None:
    running = job(
        training_dataset="hours",
        hyperparameters=job_pb2.Hyperparameters(epoch_count=4),
        progress=0.25,
        epoch=1.0,
        step=10,
        step_count=40,
        metrics={"train_loss": 1.5, "grad_norm": float("nan")},
        requested_state=State.STATE_CANCELLED,
    )
    running.start_time.FromNanoseconds(1_700_000_001_999_000_000)
    assert msgspec.to_builtins(training_answers.status(running)) == {
        "id": "ftjob-1",
        "job_id": "ftjob-1",
        "status": "running",
        "base_model": "base",
        "dataset": "hours",
        "epochs": 4,
        "created_at": "2023-11-14T22:13:20Z",
        "requested_status": "cancelled",
        "progress": 0.25,
        "epoch": 1.0,
        "step": 10,
        "total_steps": 40,
        "metrics": {"train_loss": 1.5},
        "model_id": None,
        "error": None,
        "started_at": "2023-11-14T22:13:21Z",
        "finished_at": None,
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (job_pb2.JobError(message="No room."), "No room."),
        (job_pb2.JobError(message="Bad.", line=7, column=3), "Bad. (line 7, column 3)"),
        (job_pb2.JobError(message="Bad.", line=7), "Bad. (line 7)"),
        (job_pb2.JobError(message="Line 7 is bad.", line=7, column=3), "Line 7 is bad."),
        (job_pb2.JobError(message="7 are bad.", line=7), "7 are bad. (line 7)"),
    ],
)
def test_errors(error: job_pb2.JobError, said: str) -> None:
    failed = job(State.STATE_FAILED, training_file=f"files/{FILE}", error=error)
    told = training_answers.status(failed)
    assert (told.error, told.dataset) == (said, FILE)


def test_times() -> None:
    assert moment(Timestamp()) is None
    assert moment(Timestamp(seconds=1)) == "1970-01-01T00:00:01Z"


def model(**facts: Any) -> model_pb2.Model:
    facts = {"name": "models/org/m:1", "kind": model_pb2.MODEL_KIND_CHAT} | facts
    made = model_pb2.Model(state=model_pb2.Model.STATE_READY, **facts)
    made.revision.name = "models/org/m:1/revisions/2"
    made.revision.load_options.context_length = 512
    return made


def test_a_model() -> None:
    item = model_answers.model_item(model(serving_revisions=["models/org/m:1/revisions/2"]))
    assert msgspec.to_builtins(item) == {
        "id": "org/m:1",
        "name": "org/m:1",
        "type": "chat",
        "status": "ready",
        "version": "2",
        "context_length": 512,
        "dimensions": None,
        "loaded": True,
        "created_at": None,
        "base_model": None,
    }


def test_every_kind_has_a_word() -> None:
    kinds = set(model_pb2.ModelKind.values()) - {model_pb2.MODEL_KIND_UNSPECIFIED}
    assert set(model_translate.KINDS.values()) == kinds


def deployed(body: dict[str, Any]) -> dict[str, Any]:
    request = model_translate.to_deploy_request(decode(DEPLOYS, json.dumps(body).encode()), "r")
    return json_format.MessageToDict(request, preserving_proto_field_name=True)


def test_a_deployment() -> None:
    least = {"name": "m", "source": "/models/m", "type": "chat"}
    expected: dict[str, Any] = {
        "model_id": "m", "source": "/models/m", "kind": "MODEL_KIND_CHAT", "load_options": {},
        "request_id": "r",
    }  # fmt: skip
    assert deployed(least) == expected
    assert deployed(least | dict.fromkeys(("wait", "replicas", "quantization"))) == expected
    more = {
        "context_length": 256, "dimensions": 8, "quantization": "int8", "replicas": 2,
        "base_model": "b", "wait": True, "default_temperature": 0.5,
    }  # fmt: skip
    assert deployed(least | more) == expected | {
        "load_options": {
            "context_length": 256, "dimensions": 8, "quantization": "int8", "replicas": 2,
        },
        "base_model": "b",
        "wait": True,
        "config": {"default_temperature": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True])
def test_settings_stand_bare_or_wrapped(wrapped: bool) -> None:
    settings = {
        "context_length": 512, "default_temperature": 0.7, "default_top_p": 0.9,
        "default_max_tokens": 5, "max_batch_size": 4, "system_prompt": "", "stop": [],
    }  # fmt: skip
    body = {"config": settings, "model_id": "m", "version": 3} if wrapped else settings
    update = model_translate.parse_config(json.dumps(body).encode())
    assert (update.model_id, update.version) == (("m", 3) if wrapped else (None, None))
    request = model_translate.to_update_request(update.config, model(), "3")
    assert sorted(request.update_mask.paths) == sorted(set(settings) - {"context_length"})
    assert (request.config.name, request.config.etag) == ("models/org/m:1/config", "3")
    assert request.config.default_max_tokens == 5


def test_what_is_null_stays_as_it_is() -> None:
    update = model_translate.parse_config(b'{"default_top_p": null, "stop": ["END"]}')
    request = model_translate.to_update_request(update.config, model(), "")
    assert list(request.update_mask.paths) == ["stop"]
    assert list(request.config.stop) == ["END"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"default_temperatur": 1}', "Did you mean 'default_temperature'?"),
        (b'{"config": {"stopp": []}}', "Unknown setting 'config.stopp'"),
        (b'{"config": {}, "default_top_p": 1}', "Unknown setting 'default_top_p'"),
        (b'{"config": []}', "Invalid type for 'config'"),
        (b'{"config": null}', "Invalid type for 'config'"),
        (b'{"config": {"stop": "x"}}', "Invalid type for 'config.stop'"),
        (b'{"default_top_p": 1.5}', "Invalid 'default_top_p'"),
        (b'{"config": {}, "version": "3"}', "Invalid type for 'version'"),
        (b"[]", "JSON object"),
        (b'{"\\ud83d\\ude00": 1}', "Unknown setting"),
    ],
)
def test_wrong_settings(body: bytes, said: str) -> None:
    with pytest.raises(ProblemError) as raised:
        model_translate.parse_config(body)
    assert raised.value.problem.status == 400
    assert said in raised.value.problem.message


def test_the_context_belongs_to_what_is_deployed() -> None:
    update = model_translate.parse_config(b'{"context_length": 1024}')
    with pytest.raises(ProblemError, match="Deploy the model anew") as raised:
        model_translate.to_update_request(update.config, model(), "")
    assert raised.value.problem.param == "context_length"


@pytest.mark.parametrize(
    ("if_match", "version", "etag"),
    [
        (None, None, ""),
        ("", 4, "4"),
        ("*", 4, ""),
        ('"3"', 4, "3"),
        ('W/"3"', None, "3"),
        ("3", None, "3"),
        ('"', None, '"'),
        (None, 7, "7"),
    ],
)
def test_which_state_is_changed(if_match: str | None, version: int | None, etag: str) -> None:
    assert model_translate.etag_of(if_match, version) == etag


def test_settings_come_back_as_they_went() -> None:
    config = model_pb2.ModelConfig(etag="3", default_temperature=0.7, stop=["END"])
    answer = msgspec.to_builtins(model_answers.model_config(model(), config))
    assert answer == {
        "model_id": "org/m:1",
        "version": 3,
        "config": {
            "context_length": 512,
            "default_temperature": 0.7,
            "default_top_p": None,
            "default_max_tokens": None,
            "max_batch_size": None,
            "system_prompt": "",
            "stop": ["END"],
        },
    }
