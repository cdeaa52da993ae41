"""Runs a worker: `python -m services.training.worker FOLDER ATTEMPT`."""

import os
import sys
from pathlib import Path

from services.training.folder import JobFolder
from services.training.journal import read_plan, worker_lock
from services.training.worker.attempt import follow, run
from services.training.worker.environment import prepare, rank

_EVICTED = 143


def main(arguments: list[str]) -> int:
    """Trains the job of a folder, or goes on with it; returns the exit status."""
    if len(arguments) != 2 or not arguments[1].isdecimal():
        print("usage: python -m services.training.worker FOLDER ATTEMPT", file=sys.stderr)
        return 2
    folder, attempt = JobFolder(Path(arguments[0])), int(arguments[1])
    plan = prepare(read_plan(folder.plan))
    if rank():
        follow(folder, plan)
        return 0
    with worker_lock(folder.lock, attempt) as mine:
        if not mine:
            print("Another worker has this job: nothing to do.", file=sys.stderr)
            return 0
        return 0 if run(folder, plan, attempt, os.getpid()) else _EVICTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
