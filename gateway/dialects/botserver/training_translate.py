"""Requests about training jobs, translated into requests of the training service. No I/O."""

from collections.abc import Mapping
from dataclasses import replace

from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.botserver import training_schema as schema
from gateway.dialects.botserver.spelling import SHOWN, respelled
from gateway.errors import Problem

JOBS = "trainingJobs/"
FILES = "files/"
EPOCHS = 3
"""Where a request doesn't say."""

_FILE_ID = "file-"
_FIELDS: Mapping[str, str] = {
    "job": "body",
    "job.base_model": "base_model",
    "job.training_data": "dataset",
    "job.training_file": "dataset",
    "job.training_dataset": "dataset",
    "job.validation_data": "validation_dataset",
    "job.validation_file": "validation_dataset",
    "job.validation_dataset": "validation_dataset",
    "job.hyperparameters.epoch_count": "epochs",
    "job.hyperparameters.learning_rate": "learning_rate",
    "job.hyperparameters.batch_size": "batch_size",
    "job.tuning": "method",
    "job.lora": "method",
    "job.full": "method",
    "job.suffix": "suffix",
    "job.seed": "seed",
}


def to_start_request(
    body: schema.TrainingStart, request_id: str = ""
) -> service_pb2.StartJobRequest:
    """Translates what shall be trained."""
    job = job_pb2.Job(base_model=body.base_model, suffix=body.suffix or "", seed=body.seed)
    job.hyperparameters.epoch_count = EPOCHS if body.epochs is None else body.epochs
    if body.learning_rate is not None:
        job.hyperparameters.learning_rate = body.learning_rate
    if body.batch_size is not None:
        job.hyperparameters.batch_size = body.batch_size
    if body.method == "full":
        job.full.SetInParent()
    else:
        job.lora.SetInParent()
    if body.dataset.startswith(_FILE_ID):
        job.training_file = f"{FILES}{body.dataset}"
    else:
        job.training_dataset = body.dataset
    if body.validation_dataset is not None:
        if body.validation_dataset.startswith(_FILE_ID):
            job.validation_file = f"{FILES}{body.validation_dataset}"
        else:
            job.validation_dataset = body.validation_dataset
    return service_pb2.StartJobRequest(job=job, request_id=request_id)


def spelled(problem: Problem) -> Problem:
    """Spells the field of a problem as the dialect does."""
    return respelled(problem, _FIELDS)


def unknown_job(problem: Problem, job_id: str) -> Problem:
    """Says that there is no such job, where that is the problem.

    An ID that can't be one is unknown, too.
    """
    is_malformed = problem.reason == "INVALID_ARGUMENT" and problem.param == "name"
    if problem.reason != "NOT_FOUND" and not is_malformed:
        return replace(problem, param=None) if problem.param == "name" else problem
    message = f"There is no training job '{job_id[:SHOWN]}'."
    return replace(problem, reason="NOT_FOUND", message=message, param=None, code=None)
