"""botserver's training routes: jobs of a real TrainingService."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from penstock.training.v1 import job_pb2

from services.training.job_records import JobError, JobState
from tests.integration.gateway.botserver.conftest import (
    ADMIN,
    API,
    OTHER_TRAINER,
    TRAINER,
    Whole,
)
from tests.integration.gateway.botserver.test_botserver_http import check
from tests.integration.training.file_platform import TRAINER as GRPC_TRAINER
from tests.integration.training.job_platform import PATHS, moved

WHEN = datetime(2026, 11, 22, 10, 30, 5, 999_000, tzinfo=UTC)


async def job_in(whole: Whole, state: JobState, **facts: Any) -> str:
    """Starts a job and brings it to a state, where `facts` are true of it."""
    job_id = (await whole.start()).json()["id"]
    job = job_pb2.Job(name=f"trainingJobs/{job_id}")
    for step in PATHS[state]:
        await moved(whole.training, job, step, **(facts if step is state else {}))
    return job_id


async def test_a_start_on_a_file(whole: Whole) -> None:
    file = await whole.training.put(b"{}", who=GRPC_TRAINER)
    file_id = file.name.removeprefix("files/")
    answer = await whole.start(dataset=file_id, base_model="default", suffix="hours", seed=3)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert list(body) == [
        *("id", "job_id", "status", "base_model", "dataset", "epochs", "created_at")
    ]
    assert body["id"] == body["job_id"]
    assert body["id"].startswith("ftjob-")
    assert body | {
        "status": "queued", "base_model": "base", "dataset": file_id, "epochs": 3,
    } == body  # fmt: skip
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    kept = (await whole.training.store.jobs.job(body["id"], None)).spec
    assert (kept.suffix, kept.seed, kept.training.file_id) == ("hours", 3, file_id)


async def test_every_field_travels(whole: Whole) -> None:
    wishes = {
        "epochs": 7, "learning_rate": 0.01, "batch_size": 4, "method": "full",
        "validation_dataset": "held-out", "unknown": {"x": 1},
    }  # fmt: skip
    body = (await whole.start(**wishes)).json()
    assert body["epochs"] == 7
    spec = (await whole.training.store.jobs.job(body["id"], None)).spec
    asked = spec.hyperparameters
    assert (asked.epoch_count, asked.learning_rate, asked.batch_size) == (7, 0.01, 4)
    assert type(spec.tuning).__name__ == "Full"
    assert spec.validation is not None
    assert spec.validation.dataset == "held-out"


WRONG: list[tuple[dict[str, Any], int, str, str]] = [
    ({"base_model": "nobody"}, 404, "not_found", "base_model"),
    ({"base_model": "vectors"}, 400, "bad_request", "base_model"),
    ({"dataset": "nothing"}, 404, "not_found", "dataset"),
    ({"dataset": "file-" + "a" * 24}, 404, "not_found", "dataset"),
    ({"dataset": "file-a/b"}, 400, "bad_request", "dataset"),
    ({"validation_dataset": "nothing"}, 404, "not_found", "validation_dataset"),
    ({"validation_dataset": "file-1"}, 404, "not_found", "validation_dataset"),
    ({"epochs": "3"}, 400, "bad_request", "epochs"),
    ({"method": "dpo"}, 400, "bad_request", "method"),
    ({"dataset": None}, 400, "bad_request", "dataset"),
]


async def test_what_can_not_be_started(whole: Whole) -> None:
    for change, status, word, field in WRONG:
        answer = await whole.start(**change)
        assert answer.status_code == status, (change, answer.text)
        message = check(answer, status, word)
        assert field in message
        assert "job." not in message


async def test_a_start_may_be_repeated(whole: Whole) -> None:
    headers = {**TRAINER, "idempotency-key": "once"}
    first, again = (await whole.start(headers), await whole.start(headers))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    check(await whole.start(headers, epochs=9), 409, "conflict")
    message = check(
        await whole.start({**TRAINER, "idempotency-key": "x" * 129}), 400, "bad_request"
    )
    assert "Idempotency-Key" in message


async def test_a_running_job(whole: Whole) -> None:
    facts = {
        "step": 5, "step_count": 20, "epoch": 0.75, "start_time": WHEN,
        "metrics": {"train_loss": 1.5, "grad_norm": float("inf")},
    }  # fmt: skip
    job_id = await job_in(whole, JobState.RUNNING, **facts)
    answer = await whole.http.get(f"{API}/training/{job_id}/status", headers=TRAINER)
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("created_at")
    assert body == {
        "id": job_id,
        "job_id": job_id,
        "status": "running",
        "base_model": "base",
        "dataset": "hours",
        "epochs": 3,
        "requested_status": None,
        "progress": 0.25,
        "epoch": 0.75,
        "step": 5,
        "total_steps": 20,
        "metrics": {"train_loss": 1.5},
        "model_id": None,
        "error": None,
        "started_at": "2026-11-22T10:30:05Z",
        "finished_at": None,
    }


async def test_a_job_that_succeeded(whole: Whole) -> None:
    job_id = await job_in(whole, JobState.SUCCEEDED, end_time=WHEN, trained_token_count=9)
    body = (await whole.http.get(f"{API}/training/{job_id}/status", headers=TRAINER)).json()
    assert (body["status"], body["progress"]) == ("completed", 1.0)
    assert body["model_id"].startswith("ft:base:local:")
    assert body["finished_at"] == "2026-11-22T10:30:05Z"


async def test_a_job_that_failed(whole: Whole) -> None:
    error = JobError("invalid_training_file", "This is not JSON.", "training_file", 7, 3, 2)
    job_id = await job_in(whole, JobState.FAILED, error=error)
    body = (await whole.http.get(f"{API}/training/{job_id}/status", headers=TRAINER)).json()
    assert body["status"] == "failed"
    assert body["error"] == "This is not JSON. (line 7, column 3)"
    assert body["model_id"] is None


async def test_a_paused_job(whole: Whole) -> None:
    job_id = await job_in(whole, JobState.PAUSED)
    body = (await whole.http.get(f"{API}/training/{job_id}/status", headers=TRAINER)).json()
    assert body["status"] == "paused"


CANCELS: list[tuple[JobState, int, str]] = [
    (JobState.VALIDATING_FILES, 200, "cancelled"),
    (JobState.QUEUED, 200, "cancelled"),
    (JobState.PAUSED, 200, "cancelled"),
    (JobState.CANCELLED, 200, "cancelled"),
    (JobState.RUNNING, 202, "running"),
    (JobState.SUCCEEDED, 400, "bad_request"),
    (JobState.FAILED, 400, "bad_request"),
]


async def test_cancelling(whole: Whole) -> None:
    headers = {**TRAINER, "content-type": "application/json"}
    for state, status, word in CANCELS:
        path = f"{API}/training/{await job_in(whole, state)}/cancel"
        for body in (b"", b'{"reason": "none"}'):
            answer = await whole.http.post(path, headers=headers, content=body)
            if status == 400:
                check(answer, 400, word)
                continue
            assert (answer.status_code, answer.json()["status"]) == (status, word), state
            requested = "cancelled" if status == 202 else None
            assert answer.json()["requested_status"] == requested, state


async def test_unknown_jobs(whole: Whole) -> None:
    for job_id in ("ftjob-none", "ftjob-" + "a" * 24, "x", "%20", "a:b", "é", "a" * 300, "%00"):
        path = f"{API}/training/{job_id}"
        check(await whole.http.get(f"{path}/status", headers=TRAINER), 404, "not_found")
        check(await whole.http.post(f"{path}/cancel", headers=TRAINER), 404, "not_found")


async def test_whose_jobs(whole: Whole) -> None:
    job_id = (await whole.start()).json()["id"]
    path = f"{API}/training/{job_id}"
    check(await whole.http.get(f"{path}/status", headers=OTHER_TRAINER), 404, "not_found")
    check(await whole.http.post(f"{path}/cancel", headers=OTHER_TRAINER), 404, "not_found")
    assert (await whole.http.get(f"{path}/status", headers=ADMIN)).json()["id"] == job_id
    assert (await whole.http.post(f"{path}/cancel", headers=ADMIN)).status_code == 200


async def test_a_service_that_is_away(whole: Whole) -> None:
    await whole.training.server.stop(0)
    answer = await whole.start()
    check(answer, 503, "service_unavailable")
    assert "retry-after" in answer.headers
