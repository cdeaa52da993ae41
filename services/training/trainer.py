"""The trainer port: what starts and stops the worker process of a job.

A worker is given a folder and nothing else (see `services.training.folder`). It writes what it has
done into the folder's journal, so that it can be found again, or replaced, by a service that knows
nothing but the folder. A trainer only has to say whether a worker lives.
"""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol


class WorkerState(Enum):
    """Whether a worker lives."""

    STARTING = auto()
    """It was asked for and isn't seen yet."""
    ALIVE = auto()
    GONE = auto()
    """There is none (any more)."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What is known of the worker of a job."""

    state: WorkerState
    reason: str = ""
    """Why it is gone, where that is known: `killed by signal 9`, `exited with 1`. For people."""
    out_of_memory: bool = False
    """Whether it is gone for want of memory, as far as the trainer can tell."""


class Trainer(Protocol):
    """Runs workers. All methods may be repeated: a job has at most one worker at a time."""

    async def start(self, job_id: str, folder: Path, attempt: int) -> None:
        """Starts a worker on a job's folder, unless one lives. `attempt` counts from 1.

        Raises:
            Unavailable: it can't be started now; to be tried again.
        """
        ...

    async def look(self, job_id: str, folder: Path) -> Worker:
        """Looks whether a worker lives, whoever started it.

        Raises:
            Unavailable: it can't be told now; neither alive nor gone.
        """
        ...

    async def kill(self, job_id: str, folder: Path) -> None:
        """Ends a worker at once and returns when it is gone; does nothing where there is none.

        Raises:
            Unavailable: it can't be ended now, or isn't gone yet; to be tried again.
        """
        ...

    async def close(self) -> None:
        """Lets go of the trainer's own means. Workers live on."""
        ...
