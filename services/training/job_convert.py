"""Messages of jobs to records and back."""

from typing import Any

from penstock.inference.v1 import priority_pb2 as priority_pb
from penstock.training.v1 import job_pb2 as pb
from penstock.training.v1 import training_service_pb2 as service_pb

from services.rpc.instants import timestamp
from services.training.job_names import checkpoint_name, event_name, job_name
from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    DataSource,
    Dpo,
    Full,
    Hyperparameters,
    Job,
    JobError,
    JobEvent,
    JobSpec,
    JobState,
    Level,
    Lora,
    MetricsReport,
    Priority,
    StateChange,
    Supervised,
    Target,
)
from services.training.names import file_name, parse_file
from services.training.watching import Finished, Happened, JobSeen, WatchEvent

_STATES = {
    JobState.VALIDATING_FILES: pb.Job.STATE_VALIDATING_FILES,
    JobState.QUEUED: pb.Job.STATE_QUEUED,
    JobState.RUNNING: pb.Job.STATE_RUNNING,
    JobState.PAUSED: pb.Job.STATE_PAUSED,
    JobState.SUCCEEDED: pb.Job.STATE_SUCCEEDED,
    JobState.FAILED: pb.Job.STATE_FAILED,
    JobState.CANCELLED: pb.Job.STATE_CANCELLED,
}
_STATES_BACK = {value: state for state, value in _STATES.items()}
_LEVELS = {
    Level.INFO: pb.JobEvent.LEVEL_INFO,
    Level.WARN: pb.JobEvent.LEVEL_WARN,
    Level.ERROR: pb.JobEvent.LEVEL_ERROR,
}
_PRIORITIES = {
    Priority.LOW: priority_pb.PRIORITY_LOW,
    Priority.NORMAL: priority_pb.PRIORITY_NORMAL,
    Priority.HIGH: priority_pb.PRIORITY_HIGH,
}
_PRIORITIES_BACK = {value: priority for priority, value in _PRIORITIES.items()}
_HYPERPARAMETERS = (
    "epoch_count",
    "batch_size",
    "learning_rate_multiplier",
    "learning_rate",
    "warmup_ratio",
    "weight_decay",
    "max_sequence_tokens",
)


def to_state(value: "pb.Job.State.ValueType") -> JobState:
    """Reads a state, which was validated."""
    return _STATES_BACK[value]


def to_spec(job: pb.Job) -> JobSpec:
    """Reads what a caller asks for, which was validated.

    Raises:
        InvalidArgument: the name of a file is none.
        NotFound: no file could have the name.
    """
    training = _to_source(job, "training")
    return JobSpec(
        base_model=job.base_model.removeprefix("models/"),
        training=training or DataSource(),
        validation=_to_source(job, "validation"),
        method=_to_method(job),
        tuning=_to_tuning(job),
        hyperparameters=Hyperparameters(
            **{name: _set(job.hyperparameters, name) for name in _HYPERPARAMETERS}
        ),
        suffix=job.suffix,
        seed=_set(job, "seed"),
        metadata=dict(job.metadata),
        priority=_PRIORITIES_BACK.get(job.priority, Priority.NORMAL),
        checkpoint_interval_steps=_set(job, "checkpoint_interval_steps"),
    )


def from_job(job: Job) -> pb.Job:
    """Writes a job."""
    spec = job.spec
    succeeded = job.state is JobState.SUCCEEDED
    message = pb.Job(
        name=job_name(job.id),
        state=_STATES[job.state],
        base_model=spec.base_model,
        hyperparameters=_from_hyperparameters(spec.hyperparameters),
        suffix=spec.suffix,
        seed=spec.seed,
        metadata=dict(spec.metadata),
        priority=_PRIORITIES[spec.priority],
        checkpoint_interval_steps=spec.checkpoint_interval_steps,
        owner=job.owner,
        create_time=timestamp(job.create_time),
        start_time=timestamp(job.start_time),
        end_time=timestamp(job.end_time),
        estimated_end_time=timestamp(job.estimated_end_time),
        update_time=timestamp(job.update_time),
        progress=job.progress,
        epoch=job.epoch,
        step=job.step,
        step_count=job.step_count,
        trained_token_count=job.trained_token_count if succeeded else None,
        metrics=dict(job.metrics),
        fine_tuned_model=job.model_id if succeeded else "",
        result_files=[file_name(id) for id in job.result_files],
        restart_count=job.restart_count,
    )
    _put_source(message, spec.training, "training")
    if spec.validation is not None:
        _put_source(message, spec.validation, "validation")
    _put_wishes(message, spec)
    if job.effective is not None:
        message.effective_hyperparameters.CopyFrom(_from_hyperparameters(job.effective))
    if job.error is not None:
        message.error.CopyFrom(_from_error(job.error))
    if job.requested_state is not None:
        message.requested_state = _STATES[job.requested_state]
    return message


def from_event(event: JobEvent) -> pb.JobEvent:
    """Writes an event."""
    message = pb.JobEvent(
        name=event_name(event.job_id, event.id),
        create_time=timestamp(event.create_time),
        level=_LEVELS[event.level],
        message=event.message,
    )
    match event.detail:
        case StateChange(before, after):
            message.state_change.to = _STATES[after]
            if before is not None:
                # `from` is a word of Python.
                setattr(message.state_change, "from", _STATES[before])
        case MetricsReport(step, epoch, metrics):
            message.metrics.CopyFrom(
                pb.MetricsReport(step=step, epoch=epoch, metrics=dict(metrics))
            )
        case CheckpointWritten(checkpoint_id):
            message.checkpoint = checkpoint_name(event.job_id, checkpoint_id)
        case None:
            pass
    return message


def from_checkpoint(checkpoint: Checkpoint) -> pb.Checkpoint:
    """Writes a checkpoint."""
    return pb.Checkpoint(
        name=checkpoint_name(checkpoint.job_id, checkpoint.id),
        create_time=timestamp(checkpoint.create_time),
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        metrics=dict(checkpoint.metrics),
        model=checkpoint.model_id,
        size_bytes=checkpoint.size_bytes,
    )


def from_watch(event: WatchEvent) -> service_pb.WatchJobEvent:
    """Writes a word about a job."""
    match event:
        case JobSeen(job):
            return service_pb.WatchJobEvent(job=from_job(job))
        case Happened(happened):
            return service_pb.WatchJobEvent(happened=from_event(happened))
        case Finished(job):
            return service_pb.WatchJobEvent(finish=service_pb.JobFinish(job=from_job(job)))
        case _:
            message = service_pb.WatchJobEvent()
            message.heartbeat.FromNanoseconds(round(event.silence_s * 1e9))
            return message


def _to_source(job: Any, what: str) -> DataSource | None:
    match job.WhichOneof(f"{what}_data"):
        case None:
            return None
        case field if field.endswith("_file"):
            return DataSource(file_id=parse_file(getattr(job, field), f"job.{field}"))
        case field:
            return DataSource(dataset=getattr(job, field))


def _put_source(message: pb.Job, source: DataSource, what: str) -> None:
    setattr(message, source.field(what), source.dataset or file_name(source.file_id))


def _to_method(job: pb.Job) -> Supervised | Dpo:
    if job.WhichOneof("method") == "dpo":
        return Dpo(_set(job.dpo, "beta"))
    whole = job.supervised.target == pb.SupervisedMethod.TARGET_ALL
    return Supervised(Target.ALL if whole else Target.ASSISTANT)


def _to_tuning(job: pb.Job) -> Lora | Full:
    if job.WhichOneof("tuning") == "full":
        return Full()
    lora = job.lora
    return Lora(
        rank=_set(lora, "rank"),
        alpha=_set(lora, "alpha"),
        dropout=_set(lora, "dropout"),
        target_modules=tuple(lora.target_modules),
    )


def _put_wishes(message: pb.Job, spec: JobSpec) -> None:
    match spec.method:
        case Dpo(beta):
            message.dpo.CopyFrom(pb.DpoMethod(beta=beta))
        case Supervised(target):
            message.supervised.target = (
                pb.SupervisedMethod.TARGET_ALL
                if target is Target.ALL
                else pb.SupervisedMethod.TARGET_ASSISTANT
            )
    match spec.tuning:
        case Full():
            message.full.SetInParent()
        case Lora(rank, alpha, dropout, modules):
            message.lora.CopyFrom(
                pb.LoraTuning(rank=rank, alpha=alpha, dropout=dropout, target_modules=modules)
            )


def _from_hyperparameters(values: Hyperparameters) -> pb.Hyperparameters:
    return pb.Hyperparameters(**{name: getattr(values, name) for name in _HYPERPARAMETERS})


def _from_error(error: JobError) -> pb.JobError:
    return pb.JobError(
        code=error.code,
        message=error.message,
        param=error.param,
        line=error.line,
        column=error.column,
        bad_line_count=error.bad_line_count,
    )


def _set(message: Any, field: str) -> Any:
    """Returns what a field is set to; None where it isn't."""
    return getattr(message, field) if message.HasField(field) else None
