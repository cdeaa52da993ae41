"""The surface of fine-tuning with openai-python 1.x and 3.x, by the client's own environment.

`python openai_fine_tuning_session.py SCENARIO URL KEY`; a failed assertion is a failed test. What a
model learns is tried elsewhere: here is trained as little as can be.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

BASE = "penstock-starter"
WAIT_S = 1500.0
"""Others may work on the machine."""
ENDED = {"succeeded", "failed", "cancelled"}
LINES = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {n}."},
        ]
    }
    for n in range(8)
]
PREFERENCES = [
    {
        "input": {"messages": [{"role": "user", "content": f"What is {n}?"}]},
        "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    for n in range(8)
]
METHOD: Any = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
}


def upload(client: openai.OpenAI, lines: Sequence[object], purpose: Any = "fine-tune") -> str:
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return client.files.create(file=("lines.jsonl", data), purpose=purpose).id


def until(client: openai.OpenAI, job_id: str, *wanted: str) -> FineTuningJob:
    deadline = time.monotonic() + WAIT_S
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in wanted:
        assert job.status not in ENDED, job
        assert time.monotonic() < deadline, job
        time.sleep(0.3)
    return job


def refusal(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        if not error.request_id:
            raise AssertionError("the client has no request id") from error
        return error
    raise AssertionError(f"expected {kind.__name__}")


def streamed(client: openai.OpenAI, job_id: str, **query: str) -> list[FineTuningJobEvent]:
    """All events, as they happen, until the job has ended."""
    stream = client.get(
        f"/fine_tuning/jobs/{job_id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": True, **query}, "timeout": WAIT_S},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )
    return list(stream)


def events(client: openai.OpenAI) -> None:
    """Streams a job to its end; what it tells is what the lists tell."""
    jobs = client.fine_tuning.jobs
    training, validation = upload(client, LINES), upload(client, LINES[:2])
    job = jobs.create(
        model=BASE,
        training_file=training,
        validation_file=validation,
        suffix="events",
        seed=3,
        method=METHOD,
        metadata={"of": "events"},
    )
    assert (job.object, job.status in {"validating_files", "queued"}) == ("fine_tuning.job", True)
    assert (job.seed, job.model, job.validation_file) == (3, BASE, validation)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, 4)
    assert job.method is not None
    assert job.method.type == "supervised"
    listing(client)  # of jobs that wait, while this one has the only place
    told = streamed(client, job.id)
    ended = jobs.retrieve(job.id)
    assert ended.status == "succeeded", ended
    assert ended.hyperparameters.learning_rate_multiplier == 1
    assert ended.trained_tokens
    assert ended.finished_at is not None
    assert ended.finished_at >= ended.created_at
    measured = [event.data for event in told if event.type == "metrics"]
    steps: list[Any] = [data["step"] for data in measured]  # type: ignore[index]
    assert steps == sorted(steps), steps
    assert steps[-1] == 4, steps
    assert {event.object for event in told} == {"fine_tuning.job.event"}
    assert {event.level for event in told} <= {"info", "warn", "error"}
    listed = list(jobs.list_events(job.id, limit=2))  # the client turns the pages
    assert listed == told[::-1]
    assert streamed(client, job.id, after=told[1].id) == told[2:]
    checkpoints = list(jobs.checkpoints.list(job.id, limit=1))
    assert [each.step_number for each in checkpoints] == [4, 2]
    assert checkpoints[0].fine_tuned_model_checkpoint == f"{ended.fine_tuned_model}:ckpt-step-4"
    assert checkpoints[0].metrics.step == 4
    assert checkpoints[0].metrics.train_loss is not None
    page = jobs.checkpoints.list(job.id, limit=1)
    raw: Any = page.to_dict()
    assert (raw["has_more"], raw["first_id"], raw["last_id"]) == (True, *[checkpoints[0].id] * 2)
    for file_id in ended.result_files:
        assert client.files.content(file_id).read()
    assert ended.fine_tuned_model is not None
    assert client.models.retrieve(ended.fine_tuned_model).id == ended.fine_tuned_model
    assert client.models.delete(ended.fine_tuned_model).deleted
    refusal(openai.NotFoundError, lambda: client.models.retrieve(ended.fine_tuned_model or ""))
    for file_id in (training, validation):
        assert client.files.delete(file_id).deleted


def listing(client: openai.OpenAI) -> None:
    """Jobs in pages, by their labels, paused and cancelled before they run."""
    jobs = client.fine_tuning.jobs
    file_id = upload(client, PREFERENCES)
    mark = file_id[-12:]
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 50}}}
    made = [
        jobs.create(
            model=BASE,
            training_file=file_id,
            method=method,
            metadata={"mark": mark, "number": str(number)},
        )
        for number in range(3)
    ]
    ids = [job.id for job in made]
    assert made[0].method is not None
    assert made[0].method.dpo is not None
    assert made[0].method.dpo.hyperparameters is not None
    assert made[0].method.dpo.hyperparameters.beta == 0.2
    assert [job.id for job in jobs.list(limit=1) if job.id in ids] == ids[::-1]
    assert [job.id for job in jobs.list(metadata={"mark": mark}, limit=2)] == ids[::-1]
    assert [job.id for job in jobs.list(metadata={"mark": mark, "number": "1"})] == [ids[1]]
    assert jobs.list(after=ids[1], limit=1).data[0].id == ids[0]
    error = refusal(openai.BadRequestError, lambda: client.files.delete(file_id))
    assert error.type == "invalid_request_error"
    # The last in the queue: whether it was read already or not, it isn't training.
    assert jobs.pause(ids[2]).status == "paused"
    assert jobs.resume(ids[2]).status in {"validating_files", "queued"}
    for job_id in reversed(ids):
        jobs.cancel(job_id)
    for job_id in ids:
        assert until(client, job_id, "cancelled").fine_tuned_model is None
        assert jobs.cancel(job_id).status == "cancelled"
        error = refusal(openai.BadRequestError, lambda job_id=job_id: jobs.resume(job_id))
        assert "cancelled" in error.message
    told = streamed(client, ids[2])
    assert [event.type for event in told] == ["message"] * len(told)
    assert client.files.delete(file_id).deleted


def errors(client: openai.OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    file_id, other = upload(client, LINES), upload(client, LINES, "assistants")
    supervised = "method.supervised.hyperparameters"
    for changes, param, code in (
        ({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
        ({"seed": -1}, "seed", "integer_below_min_value"),
        (
            {"hyperparameters": {"n_epochs": 51}},
            "hyperparameters.n_epochs",
            "integer_above_max_value",
        ),
        (
            {
                "method": {
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"batch_size": 0}},
                }
            },
            f"{supervised}.batch_size",
            "integer_below_min_value",
        ),
        ({"method": {"type": "reinforcement"}}, "method.type", "unsupported_parameter"),
        ({"training_file": other}, "training_file", "invalid_value"),
    ):
        arguments: Any = {"model": BASE, "training_file": file_id, **changes}
        error = refusal(openai.BadRequestError, lambda given=arguments: jobs.create(**given))
        assert (error.param, error.code) == (param, code), (changes, error.message)
        assert error.type == "invalid_request_error"
    for changes, param in (({"model": "nobody"}, "model"), ({"validation_file": "file-x"}, None)):
        arguments = {"model": BASE, "training_file": file_id, **changes}
        error = refusal(openai.NotFoundError, lambda given=arguments: jobs.create(**given))
        assert error.param == (param or "validation_file")
    for call in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events):
        error = refusal(openai.NotFoundError, lambda call=call: call("ftjob-none"))
        assert error.code == "fine_tune_not_found"
    error = refusal(openai.NotFoundError, lambda: streamed(client, "ftjob-none"))
    assert error.code == "fine_tune_not_found"
    error = refusal(openai.BadRequestError, lambda: jobs.list(limit=0))
    assert error.param == "limit"
    user = openai.OpenAI(base_url=client.base_url, api_key="user-token-for-tests", max_retries=0)
    error = refusal(openai.PermissionDeniedError, lambda: user.fine_tuning.jobs.list())
    assert (error.type, error.code) == ("permission_error", "insufficient_permissions")
    bad = upload(client, [*LINES[:2], {"messages": []}])
    job = until(client, jobs.create(model=BASE, training_file=bad).id, "failed")
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "3" in job.error.message
    refusal(openai.BadRequestError, lambda: jobs.cancel(job.id))
    for made in (file_id, other, bad):
        assert client.files.delete(made).deleted


SCENARIOS = {f.__name__: f for f in (events, errors)}

if __name__ == "__main__":
    name, url, key = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)
        )
        print("ok", scenario)
