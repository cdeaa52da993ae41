"""What keeps jobs from going on: it is tried again, told once, and stays theirs alone."""

import logging
import time
from collections.abc import Awaitable, Container
from dataclasses import dataclass
from typing import Final

from services.errors import DomainError
from services.training.check_process import CheckFailed
from services.training.job_records import Job, JobState, Level
from services.training.job_store import JobStore
from services.training.supervisor_moves import Moved, to_tell

_log = logging.getLogger(__name__)
_LONGEST_WAIT_S: Final = 30.0


@dataclass(slots=True)
class _Trouble:
    asked: JobState | None
    """What was asked for when it came up."""
    wait_s: float = 0.5
    until: float = 0.0
    told: str = ""


class Troubles:
    """Keeps the troubles of jobs."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._troubles: dict[str, _Trouble] = {}

    def keep_only(self, ids: Container[str]) -> None:
        """Forgets those of other jobs."""
        self._troubles = {id: one for id, one in self._troubles.items() if id in ids}

    def has(self, job: Job) -> bool:
        """Whether a job is to be left alone for a while. Something new that is asked for is not
        kept waiting."""
        trouble = self._troubles.get(job.id)
        return (
            trouble is not None
            and trouble.asked is job.requested_state
            and time.monotonic() < trouble.until
        )

    async def tried(self, job: Job, work: Awaitable[bool]) -> bool:
        """Does something for a job. Tells whether more is to be done soon."""
        try:
            more = await work
        except Moved:
            return True
        except DomainError as error:
            await self._note(job, error.message, error)
        except OSError as error:
            await self._note(job, "Its folder can't be used. Have the operator look.", error)
        except CheckFailed as error:
            await self._note(job, "The check of its files broke off.", error)
        except Exception as error:
            # What nobody thought of must not stop the other jobs.
            await self._note(job, "Something failed. The log of the service says what.", error)
        else:
            self._troubles.pop(job.id, None)
            return more
        return False

    async def _note(self, job: Job, message: str, error: Exception) -> None:
        trouble = self._troubles.setdefault(job.id, _Trouble(job.requested_state))
        trouble.asked = job.requested_state
        trouble.until = time.monotonic() + trouble.wait_s
        trouble.wait_s = min(2 * trouble.wait_s, _LONGEST_WAIT_S)
        _log.warning("%s does not go on: %s", job.id, message, exc_info=error)
        if trouble.told == message:
            return
        told = to_tell(Level.WARN, f"It is tried again: {message}")
        try:
            await self._store.change(job.id, None, told)
        except DomainError as failed:
            _log.warning("that could not be told: %s", failed.message)
        else:
            trouble.told = message
