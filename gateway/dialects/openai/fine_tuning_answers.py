"""Answers of the training service about jobs, translated. No I/O."""

from collections.abc import Mapping

from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.dialects.openai import fine_tuning_translate as translate
from gateway.dialects.openai.answers import seconds
from gateway.dialects.openai.file_translate import file_id_of
from gateway.errors import Problem

ORGANIZATION = "org-local"
"""Who owns every job: a server is one organisation."""

_STATUSES: Mapping[int, str] = {
    job_pb2.Job.STATE_VALIDATING_FILES: "validating_files",
    job_pb2.Job.STATE_QUEUED: "queued",
    job_pb2.Job.STATE_RUNNING: "running",
    job_pb2.Job.STATE_PAUSED: "paused",
    job_pb2.Job.STATE_SUCCEEDED: "succeeded",
    job_pb2.Job.STATE_FAILED: "failed",
    job_pb2.Job.STATE_CANCELLED: "cancelled",
}
_LEVELS: Mapping[int, str] = {
    job_pb2.JobEvent.LEVEL_INFO: "info",
    job_pb2.JobEvent.LEVEL_WARN: "warn",
    job_pb2.JobEvent.LEVEL_ERROR: "error",
}


def job_object(job: job_pb2.Job) -> schema.FineTuningJob:
    """Renders a job."""
    hyperparameters = _hyperparameters(job)
    is_running = job.state == job_pb2.Job.STATE_RUNNING
    is_estimated = is_running and job.HasField("estimated_end_time")
    return schema.FineTuningJob(
        id=translate.job_id_of(job.name),
        object="fine_tuning.job",
        created_at=seconds(job.create_time),
        error=_failure(job.error) if job.HasField("error") else None,
        fine_tuned_model=job.fine_tuned_model or None,
        finished_at=seconds(job.end_time) if job.HasField("end_time") else None,
        hyperparameters=hyperparameters,
        model=job.base_model.removeprefix("models/"),
        organization_id=ORGANIZATION,
        result_files=[file_id_of(name) for name in job.result_files],
        status=_STATUSES.get(job.state, "queued"),  # type: ignore[arg-type]
        trained_tokens=job.trained_token_count if job.HasField("trained_token_count") else None,
        training_file=file_id_of(job.training_file) or job.training_dataset,
        validation_file=file_id_of(job.validation_file) or job.validation_dataset or None,
        integrations=[],
        seed=job.seed,
        estimated_finish=seconds(job.estimated_end_time) if is_estimated else None,
        method=_method(job, hyperparameters),
        metadata=dict(sorted(job.metadata.items())),
    )


def job_list(page: service_pb2.ListJobsResponse) -> schema.FineTuningJobList:
    """Renders a page of jobs."""
    data = [job_object(job) for job in page.jobs]
    return schema.FineTuningJobList("list", data, has_more=bool(page.next_page_token))


def event_object(event: job_pb2.JobEvent) -> schema.FineTuningJobEvent:
    """Renders an event."""
    is_measured = event.HasField("metrics")
    report = event.metrics
    return schema.FineTuningJobEvent(
        id=translate.last_of(event.name),
        object="fine_tuning.job.event",
        created_at=seconds(event.create_time),
        level=_LEVELS.get(event.level, "info"),  # type: ignore[arg-type]
        message=event.message,
        type="metrics" if is_measured else "message",
        data={**_metrics(report.step, report.metrics), "epoch": report.epoch}
        if is_measured
        else None,
    )


def event_list(page: service_pb2.ListEventsResponse) -> schema.FineTuningJobEventList:
    """Renders a page of events."""
    data = [event_object(event) for event in page.events]
    return schema.FineTuningJobEventList("list", data, has_more=bool(page.next_page_token))


def checkpoint_object(checkpoint: job_pb2.Checkpoint) -> schema.FineTuningJobCheckpoint:
    """Renders a checkpoint."""
    return schema.FineTuningJobCheckpoint(
        id=translate.last_of(checkpoint.name),
        object="fine_tuning.job.checkpoint",
        created_at=seconds(checkpoint.create_time),
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=translate.job_id_of(checkpoint.name).partition("/")[0],
        metrics=_metrics(checkpoint.step, checkpoint.metrics),
        step_number=checkpoint.step,
    )


def checkpoint_list(
    page: service_pb2.ListCheckpointsResponse,
) -> schema.FineTuningJobCheckpointList:
    """Renders a page of checkpoints."""
    data = [checkpoint_object(checkpoint) for checkpoint in page.checkpoints]
    return schema.FineTuningJobCheckpointList(
        object="list",
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=bool(page.next_page_token),
    )


def _metrics(step: int, metrics: Mapping[str, float]) -> dict[str, int | float]:
    """Renders what was measured at a step, by name: maps come in no order of their own."""
    return {"step": step, **dict(sorted(metrics.items()))}


def _failure(error: job_pb2.JobError) -> schema.JobFailure:
    problem = Problem("INVALID_ARGUMENT", error.message, param=error.param or None)
    told = translate.respelled(problem)
    return schema.JobFailure(error.code, told.message, told.param)


def _hyperparameters(job: job_pb2.Job) -> schema.JobHyperparameters:
    """What was chosen; before that is known, what was asked for."""
    found: dict[str, int | float] = {}
    for given in (job.hyperparameters, job.effective_hyperparameters):
        for field in ("epoch_count", "batch_size", "learning_rate_multiplier"):
            if given.HasField(field):
                found[field] = getattr(given, field)
    is_chosen = job.HasField("effective_hyperparameters")
    if is_chosen and not job.hyperparameters.HasField("learning_rate"):
        # The service tells the rate itself, which it chose, and scaled by what was asked for.
        found.setdefault("learning_rate_multiplier", 1.0)
    return schema.JobHyperparameters(
        n_epochs=int(found["epoch_count"]) if "epoch_count" in found else "auto",
        batch_size=int(found["batch_size"]) if "batch_size" in found else "auto",
        learning_rate_multiplier=found.get("learning_rate_multiplier", "auto"),
    )


def _method(job: job_pb2.Job, chosen: schema.JobHyperparameters) -> schema.JobMethod:
    if job.WhichOneof("method") != "dpo":
        return schema.JobMethod("supervised", supervised=schema.JobSupervised(chosen))
    hyperparameters = schema.JobPreferenceHyperparameters(
        chosen.n_epochs,
        chosen.batch_size,
        chosen.learning_rate_multiplier,
        beta=job.dpo.beta if job.dpo.HasField("beta") else "auto",
    )
    return schema.JobMethod("dpo", dpo=schema.JobPreference(hyperparameters))
