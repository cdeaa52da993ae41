"""Requests about fine-tuning jobs, translated into requests of the training service. No I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.context import printable
from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.dialects.openai.fields import Rule, spelling
from gateway.dialects.openai.file_translate import file_name, unknown_file
from gateway.errors import Problem, ProblemError, invalid, unsupported

KEY_HEADER = "Idempotency-Key"
"""Makes a creation repeatable."""

_JOB = "trainingJobs/"
_LONGEST_KEY = 128
_LONGEST_SHOWN = 64
_FILE_ID = re.compile(r"[^/]{1,250}")
_DEFAULT_EVENTS = 20
_FIELDS: Mapping[str, str] = {
    "n_epochs": "epoch_count",
    "batch_size": "batch_size",
    "learning_rate_multiplier": "learning_rate_multiplier",
}
"""Hyperparameters: the service's name of each."""
_FILES = ("training_file", "validation_file")
_OLD_PLACE = "hyperparameters"

_RULES: Sequence[Rule] = (
    (re.compile(r"^(job\.)?base_model$"), "model"),
    (re.compile(r"^(job\.)?(training|validation)_(data|dataset|file)$"), r"\2_file"),
    (re.compile(r"^(job\.)?metadata.*$"), "metadata"),
    (re.compile(r"^(job\.)?dpo\.beta$"), "method.dpo.hyperparameters.beta"),
    (re.compile(r"^(job\.)?(supervised|dpo)\b.*$"), "method.type"),
    (re.compile(r"^job\.(.+)$"), r"\1"),
    (re.compile(r"^request_id$"), KEY_HEADER),
    (re.compile(r"^page_size$"), "limit"),
    (re.compile(r"^resume_after$"), "after"),
    (re.compile(r"^(name|parent)$"), "fine_tuning_job_id"),
)
_PLAIN: Mapping[str, str] = {name: f"{_OLD_PLACE}.{name}" for name in _FIELDS}


def job_name(job_id: str) -> str:
    """The resource name of a job."""
    return f"{_JOB}{job_id}"


def job_id_of(name: str) -> str:
    """The ID of a job, of its resource name."""
    return name.removeprefix(_JOB)


def last_of(name: str) -> str:
    """The ID of an event or a checkpoint, of its resource name."""
    return name.rpartition("/")[2]


def event_name(job_id: str, event_id: str | None) -> str:
    """The resource name of an event, empty for none."""
    return f"{job_name(job_id)}/events/{event_id}" if event_id else ""


def to_start_request(
    body: schema.FineTuningJobCreate, key: str | None
) -> service_pb2.StartJobRequest:
    """Translates the creation of a job; `key` is what the header `Idempotency-Key` says.

    Raises:
        ProblemError: a file can't be one, or a field is not supported.
    """
    if key and (len(key) > _LONGEST_KEY or not printable(key)):
        message = f"Invalid '{KEY_HEADER}': send at most {_LONGEST_KEY} printable characters."
        raise invalid(message, KEY_HEADER)
    job = job_pb2.Job(
        base_model=body.model,
        training_file=_file(body.training_file, "training_file"),
        suffix=body.suffix or "",
        seed=body.seed,
        metadata=body.metadata or {},
        hyperparameters=_hyperparameters(body),
    )
    if body.validation_file is not None:
        job.validation_file = _file(body.validation_file, "validation_file")
    _set_method(job, body.method or schema.TuningMethod(type="supervised"))
    return service_pb2.StartJobRequest(job=job, request_id=key or "")


def to_list_request(query: schema.FineTuningJobsQuery) -> service_pb2.ListJobsRequest:
    """Translates which page of the list of jobs is wanted. Labels are for `label_filter`."""
    after = job_name(query.after) if query.after else ""
    return service_pb2.ListJobsRequest(page_size=query.limit, after=after)


def label_filter(query: schema.FineTuningJobsQuery) -> Callable[[job_pb2.Job], bool] | None:
    """Makes the condition on labels, if there is one: the service knows none."""
    wanted = query.metadata
    if not wanted:  # an empty object is no condition
        return None
    if isinstance(wanted, str):
        return lambda job: not job.metadata
    return lambda job: all(job.metadata.get(key) == value for key, value in wanted.items())


def to_events_request(
    query: schema.FineTuningEventsQuery, job_id: str
) -> service_pb2.ListEventsRequest:
    """Translates which page of the list of events is wanted."""
    return service_pb2.ListEventsRequest(
        parent=job_name(job_id),
        page_size=_DEFAULT_EVENTS if query.limit is None else query.limit,
        after=event_name(job_id, query.after),
    )


def to_watch_request(
    query: schema.FineTuningEventsQuery, job_id: str
) -> service_pb2.WatchJobRequest:
    """Translates which events are to be streamed: all, or those after one.

    Raises:
        ProblemError: it says how many, too.
    """
    if query.limit is not None:
        message = "Invalid 'limit': a stream goes on until the job has ended. Leave it out."
        raise invalid(message, "limit")
    return service_pb2.WatchJobRequest(
        name=job_name(job_id),
        resume_after=event_name(job_id, query.after),
        from_start=not query.after,
    )


def to_checkpoints_request(
    query: schema.FineTuningCheckpointsQuery, job_id: str
) -> service_pb2.ListCheckpointsRequest:
    """Translates which page of the list of checkpoints is wanted."""
    after = f"{job_name(job_id)}/checkpoints/{query.after}" if query.after else ""
    return service_pb2.ListCheckpointsRequest(
        parent=job_name(job_id), page_size=query.limit, after=after
    )


def respelled(problem: Problem, job_id: str | None = None) -> Problem:
    """Spells a problem as the dialect does; `job_id` is the job that the request is about.

    An ID that can't be one is unknown, too.
    """
    is_about_job = job_id is not None and problem.param in (None, "name", "parent")
    is_malformed = problem.reason == "INVALID_ARGUMENT" and problem.param is not None
    if is_about_job and (problem.reason == "NOT_FOUND" or is_malformed):
        assert job_id is not None
        return replace(
            problem,
            reason="NOT_FOUND",
            message=f"Could not find fine tune: {job_id[:_LONGEST_SHOWN]}",
            param="fine_tune_id",
            code="fine_tune_not_found",
        )
    return _spelled(problem, _PLAIN)


def start_problem(problem: Problem, body: schema.FineTuningJobCreate) -> Problem:
    """Spells a problem of a creation, each field as it was given."""
    places = {name: f"{place}.{name}" for name, (place, _) in _given(body).items()}
    told = _spelled(problem, {**_PLAIN, **places})
    if told.reason == "NOT_FOUND" and told.param in _FILES:
        file_id: str | None = getattr(body, told.param)
        return unknown_file(told, file_id or "", told.param)
    return told


def _spelled(problem: Problem, places: Mapping[str, str]) -> Problem:
    rules: list[Rule] = [
        (re.compile(rf"^(job\.)?hyperparameters\.{field}$"), places[name])
        for name, field in _FIELDS.items()
    ]
    return spelling((*rules, *_RULES))(problem)


def _file(file_id: str, param: str) -> str:
    if not _FILE_ID.fullmatch(file_id):
        problem = Problem("NOT_FOUND", "", param=param)
        raise ProblemError(unknown_file(problem, file_id, param))
    return file_name(file_id)


def _given(body: schema.FineTuningJobCreate) -> dict[str, tuple[str, float | schema.Auto]]:
    """Hyperparameters that are set, each with the place where it counts."""
    found: dict[str, tuple[str, float | schema.Auto]] = {}
    places = [(_OLD_PLACE, body.hyperparameters)]
    method = body.method
    if method is not None and method.supervised is not None:
        places.append(("method.supervised.hyperparameters", method.supervised.hyperparameters))
    if method is not None and method.dpo is not None:
        places.append(("method.dpo.hyperparameters", method.dpo.hyperparameters))
    for place, given in places:
        for name in _FIELDS:
            value: float | schema.Auto | None = getattr(given, name, None)
            if value is not None:
                found[name] = place, value
    return found


def _hyperparameters(body: schema.FineTuningJobCreate) -> job_pb2.Hyperparameters | None:
    chosen = job_pb2.Hyperparameters()
    for name, (_, value) in _given(body).items():
        if value != "auto":
            setattr(chosen, _FIELDS[name], value)
    return chosen if chosen.ByteSize() else None


def _set_method(job: job_pb2.Job, method: schema.TuningMethod) -> None:
    if method.type == "reinforcement":
        raise unsupported("method.type", "no grader runs; use supervised or dpo")
    other = "dpo" if method.type == "supervised" else "supervised"
    if getattr(method, other) is not None:
        message = f"Invalid 'method.{other}': it can't be used with method.type '{method.type}'."
        raise invalid(message, f"method.{other}")
    if method.type == "supervised":
        job.supervised.SetInParent()
        return
    given = method.dpo.hyperparameters if method.dpo is not None else None
    beta = given.beta if given is not None else None
    job.dpo.CopyFrom(job_pb2.DpoMethod(beta=None if beta == "auto" else beta))
