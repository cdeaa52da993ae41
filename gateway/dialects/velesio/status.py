"""The catalogue and the queues, as Velesio lists them. No I/O."""

from collections.abc import Sequence
from typing import Literal

from penstock.inference.v1 import queue_pb2
from penstock.model.v1 import model_pb2
from penstock.training.v1 import job_pb2

from gateway.default_models import is_serving, model_id
from gateway.dialects.velesio import answer_schema as answers

DAY_S = 24 * 3600

_Worker = queue_pb2.QueueStatus.Worker

_TEXTS: dict[int, Literal["chat", "completion", "embedding"]] = {
    model_pb2.MODEL_KIND_CHAT: "chat",
    model_pb2.MODEL_KIND_COMPLETION: "completion",
    model_pb2.MODEL_KIND_EMBEDDING: "embedding",
}
_TYPES: dict[str, Literal["llm", "sd", "embed", "train"]] = {
    "llm": "llm",
    "sd": "sd",
    "embed": "embed",
    "train": "train",
}
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_WAITING = (job_pb2.Job.STATE_VALIDATING_FILES, job_pb2.Job.STATE_QUEUED)


def model_lists(models: Sequence[model_pb2.Model]) -> answers.Models:
    """Lists models of texts and of images; there are no words for others."""
    return answers.Models(
        text_models=[
            answers.TextModel(
                model_id(model),
                size_of(model.parameter_count),
                _TEXTS[model.kind],
                is_serving(model),
            )
            for model in models
            if model.kind in _TEXTS
        ],
        image_models=[
            answers.ImageModel(model_id(model), "checkpoint", is_serving(model))
            for model in models
            if model.kind == model_pb2.MODEL_KIND_IMAGE
        ],
    )


def size_of(parameter_count: int) -> str:
    """Writes a number of parameters as people do: 7B, 1.5B, 135M. Empty where it is not known."""
    for unit, letter in _UNITS:
        if parameter_count >= unit * 0.9995:
            amount = parameter_count / unit
            return (
                f"{amount:.1f}".removesuffix(".0") + letter
                if amount < 99.95
                else f"{amount:.0f}{letter}"
            )
    return str(parameter_count) if parameter_count else ""


def queue_answer(
    statuses: Sequence[queue_pb2.QueueStatus], jobs: Sequence[job_pb2.Job], now: float
) -> answers.Queue:
    """Adds up the queues of services and the training jobs that the caller sees."""
    running = [job for job in jobs if job.state == job_pb2.Job.STATE_RUNNING]
    waiting = sum(job.state in _WAITING for job in jobs)
    ended = [job for job in jobs if job.state == job_pb2.Job.STATE_SUCCEEDED]
    workers = [_worker(worker) for status in statuses for worker in status.workers]
    workers += [
        answers.Worker(f"train-{number}", "train", "busy", _job_id(job))
        for number, job in enumerate(running, start=1)
    ]
    pending = sum(status.pending for status in statuses) + waiting
    return answers.Queue(
        queue_depth=sum(status.depth for status in statuses) + waiting + len(running),
        active_workers=sum(status.active_workers for status in statuses) + len(running),
        pending_jobs=pending,
        completed_jobs_24h=sum(status.completed_24h for status in statuses)
        + sum(job.end_time.ToNanoseconds() / 1e9 > now - DAY_S for job in ended),
        workers=workers,
    )


def _worker(worker: queue_pb2.QueueStatus.Worker) -> answers.Worker:
    busy = worker.state == _Worker.STATE_BUSY
    offline = worker.state in (_Worker.STATE_LOADING, _Worker.STATE_OFFLINE)
    found = answers.Worker(
        worker.id,
        _TYPES.get(worker.type, "llm"),
        "busy" if busy else "offline" if offline else "idle",
    )
    if busy and worker.current_job:
        found.current_job = worker.current_job
    return found


def _job_id(job: job_pb2.Job) -> str:
    return job.name.removeprefix("trainingJobs/")
