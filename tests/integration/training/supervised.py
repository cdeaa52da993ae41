"""A supervisor over a real store, files and workers, and what its tests say to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.blobs import Blobs, open_blobs
from services.errors import DomainError, ModelNotFound
from services.training.base_models import BaseModel
from services.training.files import FileLimits, Files
from services.training.folder import JobFolder, job_folder
from services.training.job_records import (
    ENDED,
    DataSource,
    Job,
    JobEvent,
    JobSpec,
    JobState,
    Lora,
    MetricsReport,
)
from services.training.jobs import JobLimits, Jobs
from services.training.journal import holder
from services.training.preparing import Preparer, WorkerPlan
from services.training.publishing import Publisher
from services.training.receiving import NewFile
from services.training.records import Caller, Page, Purpose
from services.training.stores import open_store
from services.training.stores.open import Store
from services.training.supervisor import Supervisor
from services.training.supervisor_running import Patience, RunningJobs
from services.training.trainers.local import LocalTrainer
from tests.integration.training import scripted_worker

ME = Caller("me")
SCRIPTED = (sys.executable, scripted_worker.__file__)
LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
PATIENCE = Patience(restart_pause_s=0.01)


async def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(100):
        while not holds():  # noqa: ASYNC110 - files and processes set no events
            await asyncio.sleep(0.01)


class Catalogue:
    """The models that may be trained, and what was deployed: the port's other side, in memory."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.deployed: list[tuple[str, str, str]] = []
        self.raises: list[DomainError] = []
        """What the next deployments come to."""

    async def find(self, name: str) -> BaseModel:
        if name != "base":
            raise ModelNotFound(f"There is no model {name!r}.", field="job.base_model")
        return BaseModel("base", "chat", self.weights, "base")

    async def deploy(self, model_id: str, base: str, job_id: str, owner: str) -> str:
        if self.raises:
            raise self.raises.pop(0)
        self.deployed.append((model_id, base, owner))
        return ""


class Workshop:
    """What is needed to run jobs, and jobs."""

    def __init__(self, folder: Path, store: Store, blobs: Blobs) -> None:
        self.root = folder / "training"
        self.root.mkdir(exist_ok=True)
        self.store, self.blobs = store, blobs
        self.files = Files(store.files, blobs, FileLimits())
        results = FileLimits(purposes=frozenset({Purpose.FINE_TUNE_RESULTS}))
        self.results = Files(store.files, blobs, results)
        self.catalogue = Catalogue(folder / "weights")
        self.datasets: dict[str, Path] = {}
        self.jobs = Jobs(store.jobs, self.catalogue, JobLimits(datasets=self.datasets))

    def supervisor(
        self,
        *,
        trainer: LocalTrainer | None = None,
        patience: Patience = PATIENCE,
        **options: Any,
    ) -> tuple[Supervisor, LocalTrainer]:
        trainer = trainer or LocalTrainer(command=SCRIPTED)
        publisher = Publisher(self.root, self.results, self.catalogue)
        running = RunningJobs(self.root, self.store.jobs, trainer, publisher, patience)
        preparer = Preparer(self.root, self.files, self.catalogue, self.datasets, WorkerPlan())
        options = {"interval_s": 0.05} | options
        return Supervisor(self.root, self.store.jobs, preparer, running, **options), trainer

    @contextlib.asynccontextmanager
    async def supervised(self, **options: Any) -> AsyncGenerator[Supervisor]:
        """Runs a supervisor; workers that are left are killed with the last."""
        supervisor, trainer = self.supervisor(**options)
        running = asyncio.create_task(supervisor.run())
        try:
            yield supervisor
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await trainer.close()

    def script(self, **script: Any) -> None:
        """Says what workers do."""
        (self.root / "script.json").write_text(json.dumps(script))

    def go(self) -> None:
        """Lets workers go on that hold."""
        (self.root / "go").touch()

    async def upload(self, content: bytes = LINE * 3) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        new = NewFile(filename="a.jsonl", purpose=Purpose.FINE_TUNE)
        return (await self.files.upload(new, pieces(), ME)).id

    async def start(
        self, content: bytes = LINE * 3, *, validation: bytes | None = None, **spec: Any
    ) -> Job:
        facts: dict[str, Any] = {"base_model": "base", "tuning": Lora(), "seed": 7}
        if "training" not in spec:
            facts["training"] = DataSource(file_id=await self.upload(content))
        if validation is not None:
            facts["validation"] = DataSource(file_id=await self.upload(validation))
        caller = replace(ME, is_admin=True) if "priority" in spec else ME
        return await self.jobs.start(JobSpec(**(facts | spec)), "", caller)

    def folder(self, job: Job) -> JobFolder:
        return job_folder(self.root, job.id)

    async def get(self, job: Job) -> Job:
        return await self.jobs.get(job.id, ME)

    async def until(self, job: Job, holds: Callable[[Job], bool]) -> Job:
        """The job, once something holds for it."""
        async with asyncio.timeout(100):
            while True:
                job = await self.get(job)
                if holds(job):
                    return job
                assert job.state not in ENDED or holds(job), job
                await asyncio.sleep(0.01)

    async def until_state(self, job: Job, state: JobState) -> Job:
        return await self.until(job, lambda job: job.state is state)

    async def until_ended(self, job: Job) -> Job:
        return await self.until(job, lambda job: job.state in ENDED)

    async def until_worker(self, job: Job) -> int:
        """The process ID of the job's worker, once it lives."""

        def lives() -> bool:
            found = holder(self.folder(job).lock)
            return found is not None and found.is_running()

        await until(lives)
        found = holder(self.folder(job).lock)
        assert found is not None
        return found.pid

    async def events(self, job: Job) -> list[JobEvent]:
        """All events, of which it is seen that none is missing or twice."""
        page = Page(1000, descending=False)
        events = await self.store.jobs.events(job.id, None, page, after_number=0)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        reports = [event.detail for event in events if isinstance(event.detail, MetricsReport)]
        told = [(one.step, name) for one in reports for name in one.metrics]
        assert len(told) == len(set(told))
        steps = [one.step for one in reports]
        assert steps == sorted(steps)
        return list(events)

    async def messages(self, job: Job) -> list[str]:
        return [event.message for event in await self.events(job)]

    async def results_of(self, job: Job) -> bytes:
        [id] = job.result_files
        return b"".join([piece async for piece in self.files.read(id, 0, ME)])

    def no_worker_lives(self, job: Job) -> bool:
        return holder(self.folder(job).lock) is None

    def kill_workers(self) -> None:
        for lock in self.root.glob("jobs/*/worker.lock"):
            found = holder(lock)
            if found is not None and found.is_running():
                os.kill(found.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def workshop(folder: Path) -> AsyncGenerator[Workshop]:
    """Everything but a supervisor. Kills what workers are left at its end."""
    store = await open_store(f"sqlite:///{folder / 'training.db'}")
    blobs = open_blobs(folder / "blobs")
    made = Workshop(folder, store, blobs)
    try:
        yield made
    finally:
        made.kill_workers()
        await made.files.close()
        await made.results.close()
        await blobs.close()
        await store.close()
