# ruff: noqa: N818  (they read as what happened: `raise Cancelled`)
"""Ends of a training that are not success, and what the journal says of them. No torch."""

import errno
from dataclasses import dataclass

from services.errors import DomainError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")
"""How libraries written in other languages say it."""
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Failed(Exception):
    """The training can't go on.

    Args:
        code: see `services.training.job_records.JobError`.
        message: what happened and what to do, for people; without paths.
        param: field of the job at fault.
    """

    def __init__(self, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Paused(Exception):
    """The service asked for a pause; there is a checkpoint, or nothing was trained yet."""


class Cancelled(Exception):
    """The service asked for an end."""


class Evicted(Exception):
    """The machine asked for an end (SIGTERM); another worker goes on from the checkpoint."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of a failure."""

    code: str
    message: str
    param: str = ""
    transient: bool = False


def describe(error: BaseException) -> Failure:
    """Says of any exception what the job's owner is told."""
    if isinstance(error, Failed):
        return Failure(error.code, error.message, error.param)
    if is_disk_full(error):
        return Failure(
            "disk_full",
            "There is no room left on the disk where the training keeps its files: make room, or "
            "train with fewer checkpoints, and start the job again.",
        )
    if is_out_of_memory(error):
        return Failure(
            "out_of_memory",
            "The training needs more memory than there is: use LoRA, a smaller "
            "max_sequence_tokens or a smaller base model, or give the worker more memory.",
        )
    if isinstance(error, DomainError):
        return Failure("invalid_base_model", error.message, "job.base_model")
    return Failure(
        "internal_error",
        "Something went wrong in the training: the worker's log has the details.",
        transient=isinstance(error, OSError),
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that led to it, says that the disk is full."""
    return any(
        (isinstance(link, OSError) and link.errno in _DISK_ERRORS)
        or any(word in str(link) for word in _DISK_WORDS)
        for link in _chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: the device's or the machine's."""
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, RuntimeError) and any(word in str(link) for word in _MEMORY_WORDS))
        for link in _chain(error)
    )


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
