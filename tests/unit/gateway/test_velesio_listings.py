from __future__ import annotations

import pytest
from penstock.inference.v1 import queue_pb2
from penstock.model.v1 import model_pb2
from penstock.training.v1 import job_pb2

from gateway.dialects.velesio.status import DAY_S, model_lists, queue_answer, size_of

NOW = 1_700_000_000.0
Worker = queue_pb2.QueueStatus.Worker


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, ""),
        (12, "12"),
        (999, "999"),
        (1000, "1K"),
        (22_700_000, "22.7M"),
        (134_515_008, "135M"),
        (999_600_000, "1B"),
        (7_000_000_000, "7B"),
        (7_241_732_096, "7.2B"),
        (70_553_706_496, "70.6B"),
        (671_026_419_200, "671B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_sizes(count: int, size: str) -> None:
    assert size_of(count) == size


def test_models_by_what_they_do() -> None:
    kinds = [kind for kind in model_pb2.ModelKind.values() if kind]
    ready = model_pb2.Model.STATE_READY
    models = [
        model_pb2.Model(name=f"models/{kind}", kind=kind, state=ready)  # type: ignore[arg-type]
        for kind in kinds
    ]
    models[0].state = model_pb2.Model.STATE_STOPPED
    found = model_lists(models)
    assert [(model.type, model.loaded) for model in found.text_models] == [
        ("chat", False),
        ("completion", True),
        ("embedding", True),
    ]
    assert [(model.type, model.loaded) for model in found.image_models] == [("checkpoint", True)]


def test_workers_in_every_state() -> None:
    status = queue_pb2.QueueStatus(depth=3, pending=1, active_workers=1, completed_24h=7)
    for number, state in enumerate(Worker.State.values()):
        status.workers.add(id=str(number), type="sd", state=state, current_job=f"job-{number}")  # type: ignore[arg-type]
    found = queue_answer([status, status], [], NOW)
    assert (found.queue_depth, found.pending_jobs, found.active_workers) == (6, 2, 2)
    assert found.completed_jobs_24h == 14
    words = [(worker.id, worker.status, worker.current_job) for worker in found.workers[:5]]
    busy = Worker.STATE_BUSY
    offline = (Worker.STATE_LOADING, Worker.STATE_OFFLINE)
    for number, (state, word) in enumerate(zip(Worker.State.values(), words, strict=True)):
        status_word = "busy" if state == busy else "offline" if state in offline else "idle"
        assert word[:2] == (str(number), status_word)
        assert (word[2] == f"job-{number}") is (state == busy)


def test_jobs_of_the_last_day() -> None:
    jobs: list[job_pb2.Job] = []
    for ago_s in (10, DAY_S - 10, DAY_S + 10):
        job = job_pb2.Job(name="trainingJobs/ftjob-1", state=job_pb2.Job.STATE_SUCCEEDED)
        job.end_time.FromSeconds(int(NOW - ago_s))
        jobs.append(job)
    assert queue_answer([], jobs, NOW).completed_jobs_24h == 2
