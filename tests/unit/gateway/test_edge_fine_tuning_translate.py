"""Fine-tuning jobs of OpenAI's dialect, to and from the training service's."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import fine_tuning_answers as answers
from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.dialects.openai import fine_tuning_translate as translate
from gateway.dialects.openai.fine_tuning_stream import JobEventStream
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

DECODER = msgspec.json.Decoder(schema.FineTuningJobCreate)
LEAST: dict[str, Any] = {"model": "base", "training_file": "file-1"}
SUPERVISED = "method.supervised.hyperparameters"
DPO = "method.dpo.hyperparameters"


def body(**more: Any) -> schema.FineTuningJobCreate:
    return decode(DECODER, json.dumps(LEAST | more).encode())


def started(**more: Any) -> job_pb2.Job:
    return translate.to_start_request(body(**more), None).job


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}


def test_the_least_that_starts_a_job() -> None:
    request = translate.to_start_request(body(), None)
    job = request.job
    assert request.request_id == ""
    assert (job.base_model, job.training_file) == ("base", "files/file-1")
    assert job.WhichOneof("method") == "supervised"
    for unset in ("hyperparameters", "seed", "validation_file", "lora", "full"):
        assert not job.HasField(unset), unset


def test_everything_that_starts_a_job() -> None:
    job = started(
        validation_file="file-2",
        suffix="My café",
        seed=0,
        metadata={"team": "a"},
        integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": ["x"]}}],
        method=supervised(n_epochs=3, batch_size=8, learning_rate_multiplier=2),
        unknown={"x": 1},
    )
    assert job.validation_file == "files/file-2"
    assert (job.suffix, job.seed, dict(job.metadata)) == ("My café", 0, {"team": "a"})
    assert job.HasField("seed")
    assert job.hyperparameters == job_pb2.Hyperparameters(
        epoch_count=3, batch_size=8, learning_rate_multiplier=2
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hyperparameters": {"n_epochs": 2}}, {"epoch_count": 2}),
        ({"hyperparameters": {"n_epochs": "auto", "batch_size": None}}, {}),
        ({"hyperparameters": {}}, {}),
        (
            {"hyperparameters": {"n_epochs": 2}, "method": supervised(n_epochs=5)},
            {"epoch_count": 5},
        ),
        ({"hyperparameters": {"n_epochs": 2}, "method": supervised(n_epochs="auto")}, {}),
        (
            {"hyperparameters": {"n_epochs": 2}, "method": supervised(batch_size=4)},
            {"epoch_count": 2, "batch_size": 4},
        ),
        ({"hyperparameters": {"n_epochs": 2}, "method": {"type": "dpo"}}, {"epoch_count": 2}),
        (
            {"method": dpo(learning_rate_multiplier=0.5, beta=0.2)},
            {"learning_rate_multiplier": 0.5},
        ),
    ],
)
def test_both_places_of_hyperparameters(given: dict[str, Any], expected: dict[str, float]) -> None:
    assert started(**given).hyperparameters == job_pb2.Hyperparameters(**expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "beta"),
    [
        ({"type": "dpo"}, None),
        ({"type": "dpo", "supervised": None, "dpo": {}}, None),
        (dpo(beta="auto"), None),
        (dpo(beta=0), 0.0),
        (dpo(beta=2), 2.0),
    ],
)
def test_preferences(method: dict[str, Any], beta: float | None) -> None:
    job = started(method=method)
    assert job.WhichOneof("method") == "dpo"
    assert (job.dpo.beta if job.dpo.HasField("beta") else None) == beta


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": ""}, "model", "string_below_min_length"),
    ({"model": None}, "model", "invalid_type"),
    ({"training_file": ""}, "training_file", "string_below_min_length"),
    ({"training_file": 5}, "training_file", "invalid_type"),
    ({"validation_file": ""}, "validation_file", "string_below_min_length"),
    ({"suffix": ""}, "suffix", "string_below_min_length"),
    ({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
    ({"seed": -1}, "seed", "integer_below_min_value"),
    ({"seed": 2**31}, "seed", "integer_above_max_value"),
    ({"seed": "1"}, "seed", "invalid_type"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "object_above_max_properties"),
    ({"metadata": {"k" * 65: "x"}}, "metadata", "string_above_max_length"),
    ({"metadata": {"k": "x" * 513}}, "metadata.k", "string_above_max_length"),
    ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
    ({"integrations": [{"type": "wandb"}]}, "integrations[0].wandb", "missing_required_parameter"),
    ({"integrations": [{"type": "x"}]}, "integrations[0].type", "invalid_value"),
    ({"hyperparameters": 3}, "hyperparameters", "invalid_type"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "integer_below_min_value"),
    ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "integer_above_max_value"),
    ({"hyperparameters": {"n_epochs": "x"}}, "hyperparameters.n_epochs", "invalid_value"),
    ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", "invalid_type"),
    ({"method": supervised(batch_size=257)}, f"{SUPERVISED}.batch_size", "integer_above_max_value"),
    (
        {"method": supervised(learning_rate_multiplier=0)},
        f"{SUPERVISED}.learning_rate_multiplier",
        "decimal_below_min_value",
    ),
    (
        {"method": dpo(learning_rate_multiplier=1001)},
        f"{DPO}.learning_rate_multiplier",
        "decimal_above_max_value",
    ),
    ({"method": dpo(beta=2.1)}, f"{DPO}.beta", "decimal_above_max_value"),
    ({"method": dpo(beta=-0.1)}, f"{DPO}.beta", "decimal_below_min_value"),
    ({"method": {}}, "method.type", "missing_required_parameter"),
    ({"method": {"type": "rlhf"}}, "method.type", "invalid_value"),
    ({"method": {"type": "reinforcement"}}, "method.type", "unsupported_parameter"),
    (
        {"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "x"}}}},
        "method.type",
        "unsupported_parameter",
    ),
    ({"method": supervised() | {"type": "dpo"}}, "method.supervised", "invalid_value"),
    ({"method": dpo() | {"type": "supervised"}}, "method.dpo", "invalid_value"),
]


@pytest.mark.parametrize(("given", "param", "code"), REFUSED)
def test_refused(given: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        started(**given)
    problem = caught.value.problem
    assert (problem.status, problem.param, problem.code) == (400, param, code), problem.message


@pytest.mark.parametrize("missing", ["model", "training_file"])
def test_what_must_be_there(missing: str) -> None:
    given = {name: value for name, value in LEAST.items() if name != missing}
    with pytest.raises(ProblemError) as caught:
        decode(DECODER, json.dumps(given).encode())
    problem = caught.value.problem
    assert (problem.param, problem.code) == (missing, "missing_required_parameter")


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
@pytest.mark.parametrize("file_id", ["a/b", "../x", "/", "f" * 251])
def test_a_file_that_can_not_be_one_is_unknown(param: str, file_id: str) -> None:
    with pytest.raises(ProblemError) as caught:
        started(**{param: file_id})
    problem = caught.value.problem
    assert (problem.status, problem.param) == (404, param)
    assert problem.message.startswith("No such File object: ")


@pytest.mark.parametrize("key", ["k" * 129, "café", "a\tb"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ProblemError) as caught:
        translate.to_start_request(body(), key)
    assert caught.value.problem.param == "Idempotency-Key"


def test_a_key_makes_a_creation_repeatable() -> None:
    assert translate.to_start_request(body(), "k" * 128).request_id == "k" * 128
    assert translate.to_start_request(body(), "").request_id == ""


PLACED = {"hyperparameters": {"n_epochs": 2}, "method": supervised(batch_size=4)}


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        ("job.base_model", {}, "model"),
        ("base_model", {}, "model"),
        ("job.training_file", {}, "training_file"),
        ("job.training_data", {}, "training_file"),
        ("job.validation_file", {}, "validation_file"),
        ("job.suffix", {}, "suffix"),
        ("job.seed", {}, "seed"),
        ('job.metadata["a"]', {}, "metadata"),
        ("job.hyperparameters.epoch_count", PLACED, "hyperparameters.n_epochs"),
        ("job.hyperparameters.batch_size", PLACED, f"{SUPERVISED}.batch_size"),
        ("job.hyperparameters.batch_size", {}, "hyperparameters.batch_size"),
        ("job.hyperparameters.batch_size", {"method": dpo(batch_size=4)}, f"{DPO}.batch_size"),
        ("job.hyperparameters", PLACED, "hyperparameters"),
        ("job.dpo.beta", {"method": dpo(beta=1)}, f"{DPO}.beta"),
        ("job.dpo", {}, "method.type"),
        ("request_id", {}, "Idempotency-Key"),
    ],
)
def test_spelling(path: str, given: dict[str, Any], param: str) -> None:
    problem = Problem("INVALID_ARGUMENT", f"{path}: not so", path)
    told = translate.start_problem(problem, body(**given))
    assert (told.param, told.message) == (param, f"{param}: not so")


def test_files_that_the_service_does_not_know() -> None:
    problem = Problem("NOT_FOUND", "job.validation_file: files/file-9", "job.validation_file")
    told = translate.start_problem(problem, body(validation_file="file-9"))
    assert (told.status, told.param) == (404, "validation_file")
    assert told.message == "No such File object: file-9"


@pytest.mark.parametrize(
    ("reason", "param", "is_unknown"),
    [
        ("NOT_FOUND", "name", True),
        ("NOT_FOUND", "parent", True),
        ("NOT_FOUND", None, True),
        ("INVALID_ARGUMENT", "name", True),
        ("INVALID_ARGUMENT", "parent", True),
        ("INVALID_ARGUMENT", None, False),
        ("INVALID_ARGUMENT", "after", False),
        ("NOT_FOUND", "resume_after", False),
        ("FAILED_PRECONDITION", None, False),
        ("FAILED_PRECONDITION", "name", False),
    ],
)
def test_unknown_jobs(reason: str, param: str | None, is_unknown: bool) -> None:
    told = translate.respelled(Problem(reason, "what is", param), "ftjob-1")
    if is_unknown:
        assert (told.status, told.param, told.code) == (404, "fine_tune_id", "fine_tune_not_found")
        assert told.message == "Could not find fine tune: ftjob-1"
    else:
        assert (told.reason, told.message) == (reason, "what is")


def test_lists() -> None:
    request = translate.to_list_request(schema.FineTuningJobsQuery(after="ftjob-1", limit=3))
    assert (request.page_size, request.after) == (3, "trainingJobs/ftjob-1")
    events = translate.to_events_request(schema.FineTuningEventsQuery(), "ftjob-1")
    assert (events.parent, events.page_size, events.after) == ("trainingJobs/ftjob-1", 20, "")
    query = schema.FineTuningEventsQuery(after="ftevent-2", limit=1)
    events = translate.to_events_request(query, "ftjob-1")
    assert (events.page_size, events.after) == (1, "trainingJobs/ftjob-1/events/ftevent-2")
    given = schema.FineTuningCheckpointsQuery(after="ftckpt_3")
    checkpoints = translate.to_checkpoints_request(given, "ftjob-1")
    assert checkpoints.page_size == 10
    assert checkpoints.after == "trainingJobs/ftjob-1/checkpoints/ftckpt_3"


def test_streams_begin_at_the_start_or_after_an_event() -> None:
    request = translate.to_watch_request(schema.FineTuningEventsQuery(stream=True), "ftjob-1")
    assert (request.from_start, request.resume_after) == (True, "")
    query = schema.FineTuningEventsQuery(stream=True, after="ftevent-2")
    request = translate.to_watch_request(query, "ftjob-1")
    assert request.resume_after == "trainingJobs/ftjob-1/events/ftevent-2"
    assert not request.from_start
    with pytest.raises(ProblemError) as caught:
        translate.to_watch_request(schema.FineTuningEventsQuery(limit=5), "ftjob-1")
    assert caught.value.problem.param == "limit"


@pytest.mark.parametrize(
    ("wanted", "labels", "matches"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, True),
        ({"a": "1"}, {"a": "2"}, False),
        ({"a": ""}, {"a": ""}, True),
        ({"a": ""}, {}, False),
        ({"a": "1", "b": "2"}, {"a": "1"}, False),
        ("null", {}, True),
        ("null", {"a": ""}, False),
    ],
)
def test_labels(wanted: Any, labels: dict[str, str], matches: bool) -> None:
    condition = translate.label_filter(schema.FineTuningJobsQuery(metadata=wanted))
    assert condition is not None
    assert condition(job_pb2.Job(metadata=labels)) is matches


@pytest.mark.parametrize("wanted", [None, {}])
def test_no_labels(wanted: Any) -> None:
    assert translate.label_filter(schema.FineTuningJobsQuery(metadata=wanted)) is None


def job(**fields: Any) -> job_pb2.Job:
    made = job_pb2.Job(
        name="trainingJobs/ftjob-1",
        state=job_pb2.Job.STATE_QUEUED,
        base_model="base",
        training_file="files/file-1",
        seed=42,
        **fields,
    )
    made.create_time.seconds = 100
    return made


AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def shown(given: job_pb2.Job) -> dict[str, Any]:
    return json.loads(msgspec.json.encode(answers.job_object(given)))


def test_a_new_job_has_every_key() -> None:
    assert shown(job()) == {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 100,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": AUTO,
        "model": "base",
        "organization_id": "org-local",
        "result_files": [],
        "status": "queued",
        "trained_tokens": None,
        "training_file": "file-1",
        "validation_file": None,
        "integrations": [],
        "seed": 42,
        "estimated_finish": None,
        "method": {"type": "supervised", "supervised": {"hyperparameters": AUTO}},
        "metadata": {},
    }


def test_a_job_that_has_succeeded() -> None:
    given = job(
        validation_file="files/file-2",
        hyperparameters=job_pb2.Hyperparameters(epoch_count=3),
        effective_hyperparameters=job_pb2.Hyperparameters(
            epoch_count=3, batch_size=8, learning_rate_multiplier=1.5, learning_rate=1e-3
        ),
        fine_tuned_model="ft:base:local::abcdefgh",
        result_files=["files/file-3"],
        trained_token_count=1234,
        metadata={"b": "2", "a": "1"},
    )
    given.dpo.beta = 0.2
    given.state = job_pb2.Job.STATE_SUCCEEDED
    given.end_time.seconds = 200
    given.estimated_end_time.seconds = 199
    found = shown(given)
    chosen = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.5}
    assert found["hyperparameters"] == chosen
    assert found["method"] == {"type": "dpo", "dpo": {"hyperparameters": {**chosen, "beta": 0.2}}}
    assert (found["status"], found["finished_at"], found["estimated_finish"]) == (
        "succeeded",
        200,
        None,
    )
    assert (found["trained_tokens"], found["result_files"]) == (1234, ["file-3"])
    assert found["fine_tuned_model"] == "ft:base:local::abcdefgh"
    assert found["validation_file"] == "file-2"
    assert list(found["metadata"]) == ["a", "b"]


def test_what_was_asked_for_until_it_is_known_what_was_chosen() -> None:
    given = job(hyperparameters=job_pb2.Hyperparameters(batch_size=4))
    assert shown(given)["hyperparameters"] == AUTO | {"batch_size": 4}
    given.effective_hyperparameters.epoch_count = 3
    chosen = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.0}
    assert shown(given)["hyperparameters"] == chosen
    given.hyperparameters.learning_rate_multiplier = 2.5
    assert shown(given)["hyperparameters"] == chosen | {"learning_rate_multiplier": 2.5}


def test_a_rate_that_was_asked_for_is_no_multiple_of_the_service_s() -> None:
    given = job(hyperparameters=job_pb2.Hyperparameters(learning_rate=0.01))
    given.effective_hyperparameters.learning_rate = 0.01
    assert shown(given)["hyperparameters"] == AUTO


def test_when_a_running_job_is_expected_to_end() -> None:
    given = job()
    given.estimated_end_time.seconds = 150
    assert shown(given)["estimated_finish"] is None
    given.state = job_pb2.Job.STATE_RUNNING
    assert shown(given)["estimated_finish"] == 150


def test_every_state_has_a_word() -> None:
    words: set[str] = set()
    for state in job_pb2.Job.State.values():
        if state != job_pb2.Job.STATE_UNSPECIFIED:
            given = job()
            given.state = state
            words.add(shown(given)["status"])
    assert words == {
        *("validating_files", "queued", "running", "paused"),
        *("succeeded", "failed", "cancelled"),
    }


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("", None),
        ("training_file", "training_file"),
        ("job.base_model", "model"),
        ("base_model", "model"),
        ("hyperparameters.batch_size", "hyperparameters.batch_size"),
        ("hyperparameters.epoch_count", "hyperparameters.n_epochs"),
    ],
)
def test_failures(param: str, told: str | None) -> None:
    given = job()
    error = job_pb2.JobError(code="invalid_training_file", message="Line 3: no.", param=param)
    given.error.CopyFrom(error)
    assert shown(given)["error"] == {
        "code": "invalid_training_file",
        "message": "Line 3: no.",
        "param": told,
    }


def test_a_job_on_datasets_names_them() -> None:
    given = job(validation_dataset="held-out")
    given.training_dataset = "house"
    found = shown(given)
    assert (found["training_file"], found["validation_file"]) == ("house", "held-out")


NAME = "trainingJobs/ftjob-1/events/ftevent-1"


def test_events() -> None:
    event = job_pb2.JobEvent(name=NAME, level=job_pb2.JobEvent.LEVEL_WARN, message="It died.")
    event.create_time.seconds = 7
    assert json.loads(msgspec.json.encode(answers.event_object(event))) == {
        "id": "ftevent-1",
        "object": "fine_tuning.job.event",
        "created_at": 7,
        "level": "warn",
        "message": "It died.",
        "type": "message",
        "data": None,
    }
    event.metrics.step, event.metrics.epoch = 3, 0.5
    event.metrics.metrics.update({"train_loss": 1.25, "valid_loss": math.nan})
    found = json.loads(msgspec.json.encode(answers.event_object(event)))
    assert found["type"] == "metrics"
    assert found["data"] == {"step": 3, "train_loss": 1.25, "valid_loss": None, "epoch": 0.5}


@pytest.mark.parametrize("detail", ["state_change", "checkpoint"])
def test_other_details_are_messages(detail: str) -> None:
    event = job_pb2.JobEvent(name=NAME, level=job_pb2.JobEvent.LEVEL_INFO)
    if detail == "checkpoint":
        event.checkpoint = "trainingJobs/ftjob-1/checkpoints/ftckpt_1"
    else:
        event.state_change.to = job_pb2.Job.STATE_RUNNING
    found = answers.event_object(event)
    assert (found.type, found.data) == ("message", None)


def test_checkpoints() -> None:
    checkpoint = job_pb2.Checkpoint(
        name="trainingJobs/ftjob-1/checkpoints/ftckpt_9",
        step=9,
        metrics={"train_loss": 0.5},
        model="ft:base:local::abcdefgh:ckpt-step-9",
    )
    checkpoint.create_time.seconds = 8
    page = service_pb2.ListCheckpointsResponse(checkpoints=[checkpoint], next_page_token="x")
    found = json.loads(msgspec.json.encode(answers.checkpoint_list(page)))
    assert found == {
        "object": "list",
        "data": [
            {
                "id": "ftckpt_9",
                "object": "fine_tuning.job.checkpoint",
                "created_at": 8,
                "fine_tuned_model_checkpoint": "ft:base:local::abcdefgh:ckpt-step-9",
                "fine_tuning_job_id": "ftjob-1",
                "metrics": {"step": 9, "train_loss": 0.5},
                "step_number": 9,
            }
        ],
        "first_id": "ftckpt_9",
        "last_id": "ftckpt_9",
        "has_more": True,
    }
    empty = answers.checkpoint_list(service_pb2.ListCheckpointsResponse())
    assert (empty.first_id, empty.last_id, empty.has_more) == (None, None, False)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_a_message_can_not_add_frames(messages: list[str]) -> None:
    stream = JobEventStream("ftjob-1")
    frames: list[bytes] = []
    for message in messages:
        event = service_pb2.WatchJobEvent()
        event.happened.name, event.happened.message = NAME, message
        frames += stream.feed(event)
    end = service_pb2.WatchJobEvent()
    end.finish.job.name = "trainingJobs/ftjob-1"
    frames += stream.feed(end)
    assert stream.finished
    lines = b"".join(frames).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert [json.loads(line.removeprefix("data: "))["message"] for line in lines[:-2]] == messages
