"""How submissions to Ray end: what that tells of the worker."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from services.training.trainers.ray_jobs import Status, Submission

FOLDER_MISSING: Final = 72
"""What the entrypoint exits with on a node that doesn't have the folder of the job."""


class After(Enum):
    """What may be left of a worker whose submission has ended."""

    NOTHING = auto()
    PERHAPS_ALIVE = auto()
    """Ray lost sight of it: it may run on for a while."""
    NEVER_RAN = auto()
    """It got no place in the cluster in time."""


@dataclass(frozen=True, slots=True)
class End:
    """How a submission ended."""

    reason: str
    """For people; without paths."""
    out_of_memory: bool = False
    after: After = After.NOTHING


_TIMED_OUT: Final = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
_STARTING: Final = {"JOB_SUPERVISOR_ACTOR_START_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR"}
_BEFORE_START: Final = {
    "RUNTIME_ENV_SETUP_FAILURE": "Ray could not set up its environment",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": "no node of the Ray cluster may run it",
}
_SAID_BY_RAY: Final = re.compile(r"OutOfMemoryError|running low on memory")
"""In Ray's messages. Where a node is lost, they also name want of memory as a mere example."""
_SAID_BY_THE_WORKER: Final = re.compile(
    r"OutOfMemoryError|\bMemoryError\b|out of memory|Cannot allocate memory", re.IGNORECASE
)


def end_of(found: Submission | None, *, log: str = "", processes: int = 1) -> End:
    """Reads the end of a submission; None is one that the cluster doesn't know (any more). `log`
    is what the worker wrote."""
    if found is None:
        return End("the Ray cluster does not know it", after=After.PERHAPS_ALIVE)
    if found.status is Status.SUCCEEDED:
        return End("exited with 0")
    if found.status is Status.STOPPED:
        return End("stopped")
    error, message = found.error_type, found.message or ""
    if error == _TIMED_OUT:
        return End("found no room in the Ray cluster", after=After.NEVER_RAN)
    if error in _BEFORE_START:
        return End(_BEFORE_START[error])
    if found.driver_exit_code is not None:
        return _exited(found.driver_exit_code, log, processes)
    if _SAID_BY_RAY.search(message):
        return End("its Ray node ran out of memory", out_of_memory=True, after=After.PERHAPS_ALIVE)
    # Ray says so too of what had long been running, when its own part of it is missing.
    lost = "could not start it, or lost it" if error in _STARTING else "lost it"
    return End(f"Ray {lost}, perhaps with its node", after=After.PERHAPS_ALIVE)


def _exited(code: int, log: str, processes: int) -> End:
    if code == FOLDER_MISSING:
        return End("the training folder is not mounted on the Ray node at the same path")
    out_of_memory = _SAID_BY_THE_WORKER.search(log) is not None
    if code >= 0:
        return End(f"exited with {code}", out_of_memory)
    # What is killed is the launcher where there are several processes: they outlive it.
    after = After.NOTHING if processes == 1 else After.PERHAPS_ALIVE
    return End(f"killed by signal {-code}", out_of_memory, after)
