"""IDs and names of jobs, and of what belongs to them."""

import re
import secrets
from string import ascii_letters, digits
from urllib.parse import quote

from services.errors import InvalidArgument, NotFound

_ALPHABET = digits + ascii_letters
_JOBS = "trainingJobs/"
_JOB_ID = re.compile("ftjob-[0-9A-Za-z]{24}")
_EVENT_ID = re.compile("ftevent-[0-9A-Za-z]{24}")
_CHECKPOINT_ID = re.compile("ftckpt_[0-9A-Za-z]{24}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_RESULT = re.compile(
    r"ft:(?P<base>.+):[A-Za-z0-9._-]*:[A-Za-z0-9._-]*:[A-Za-z0-9]{8}(?::ckpt-step-[0-9]+)?"
)
"""An ID as `result_id` and `checkpoint_model_id` make it."""
_LONGEST_PART = 64
_LONGEST_RESULT = 200
_LONGEST_QUOTED = 220
"""Of an ID as URLs quote it: links have such names, with the step of a checkpoint added, and file
systems take 255 bytes."""
_SHORT = 8
_SHOWN = 80


def _drawn(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_job_id() -> str:
    """Draws the ID of a job."""
    return "ftjob-" + _drawn(24)


def new_event_id() -> str:
    """Draws the ID of an event."""
    return "ftevent-" + _drawn(24)


def new_checkpoint_id() -> str:
    """Draws the ID of a checkpoint."""
    return "ftckpt_" + _drawn(24)


def job_name(id: str) -> str:
    """Returns the resource name of a job."""
    return f"{_JOBS}{id}"


def event_name(job_id: str, id: str) -> str:
    """Returns the resource name of an event."""
    return f"{_JOBS}{job_id}/events/{id}"


def checkpoint_name(job_id: str, id: str) -> str:
    """Returns the resource name of a checkpoint."""
    return f"{_JOBS}{job_id}/checkpoints/{id}"


def parse_job(name: str, field: str) -> str:
    """Reads the ID from `trainingJobs/{training_job}`.

    Raises:
        InvalidArgument: it is no name of a job.
        NotFound: no job could have this ID.
    """
    id = name.removeprefix(_JOBS)
    if id == name or not id or "/" in id:
        raise InvalidArgument(f"'{field}': must be '{_JOBS}' and the ID of a job.", field=field)
    if not _JOB_ID.fullmatch(id):
        raise no_job(id, field)
    return id


def parse_event(name: str, job_id: str, field: str) -> str:
    """Reads the ID from `trainingJobs/{training_job}/events/{event}`. Raises `InvalidArgument`
    where it can't be an event of the job."""
    return _part(name, job_id, "events", _EVENT_ID, field)


def parse_checkpoint(name: str, job_id: str, field: str) -> str:
    """Reads the ID from `trainingJobs/{training_job}/checkpoints/{checkpoint}`. Raises
    `InvalidArgument` where it can't be a checkpoint of the job."""
    return _part(name, job_id, "checkpoints", _CHECKPOINT_ID, field)


def _part(name: str, job_id: str, kind: str, pattern: re.Pattern[str], field: str) -> str:
    prefix = f"{_JOBS}{job_id}/{kind}/"
    id = name.removeprefix(prefix)
    if id == name or not pattern.fullmatch(id):
        raise InvalidArgument(
            f"'{field}': must be the name of one of the job's {kind}, as a list of them gave it.",
            field=field,
        )
    return id


def no_job(id: str, field: str | None = None) -> NotFound:
    """The error for a job that does not exist for the caller."""
    return NotFound(f"There is no training job {id[:_SHOWN]!r}.", field=field)


def result_id(base: str, organisation: str, suffix: str) -> str:
    """Draws what the result of a job will be called: `ft:{base}:{organisation}:{suffix}:{short}`.

    A base that is such a result itself gives its own base, so that IDs don't nest; one that is long
    is cut.
    """
    nested = _RESULT.fullmatch(base)
    whole = nested["base"] if nested else base
    end = f":{_cleaned(organisation)}:{_cleaned(suffix)}:{_drawn(_SHORT)}"
    cut = whole[: _LONGEST_RESULT - len("ft:") - len(end)]
    while len(quote(f"ft:{cut}{end}", safe="")) > _LONGEST_QUOTED:
        cut = cut[:-1]
    return f"ft:{cut}{end}"


def checkpoint_model_id(model_id: str, step: int) -> str:
    """Returns what a checkpoint of a job is called, whose result has an ID."""
    return f"{model_id}:ckpt-step-{step}"


def _cleaned(text: str) -> str:
    return _UNFIT.sub("-", text[:_LONGEST_PART])
