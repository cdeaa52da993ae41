from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.training.folder import Ended, JobFolder
from services.training.journal import read_plan
from services.training.worker.attempt import run
from tests.conformance.training.worker_jobs import records

RunHere = Callable[..., Ended]


@pytest.fixture
def base(tiny_llama: Path) -> Path:
    """A tiny chat model."""
    return tiny_llama


@pytest.fixture
def run_here() -> Iterator[RunHere]:
    """Runs a worker's life in this process, which saves the seconds that its imports take."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]

    def run_one(folder: JobFolder, attempt: int = 1) -> Ended:
        assert run(folder, read_plan(folder.plan), attempt, os.getpid())
        last = records(folder)[-1]
        assert isinstance(last, Ended)
        return last

    yield run_one
    for number, handler in before:
        signal.signal(number, handler)
