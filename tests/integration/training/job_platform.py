"""TrainingService beside a ModelService, and what tests of jobs say to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as pb

from services.model.catalog import Catalog
from services.model.records import ModelKind
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, Watches, keep
from services.rpc.server import Registration, Server, ServerSettings
from services.training.job_records import Job, JobState, Level, NewEvent, StateChange
from tests.integration.training.file_platform import TRAINER, Platform, tokens
from tests.ready_databases import ready_file

PATHS: dict[JobState, list[JobState]] = {
    JobState.VALIDATING_FILES: [],
    JobState.QUEUED: [JobState.QUEUED],
    JobState.RUNNING: [JobState.QUEUED, JobState.RUNNING],
    JobState.PAUSED: [JobState.PAUSED],
    JobState.SUCCEEDED: [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED],
    JobState.FAILED: [JobState.FAILED],
    JobState.CANCELLED: [JobState.CANCELLED],
}
"""How a new job comes to a state."""


@contextlib.asynccontextmanager
async def catalogue(folder: Path) -> AsyncIterator[str]:
    """Serves a catalogue with the models `base` (also called `default`), `writer` and `vectors`;
    gives its address."""
    weights = folder / "weights"
    weights.mkdir()
    source = str(weights)
    async with contextlib.AsyncExitStack() as stack:
        opened = await SqlStore.open(await ready_file(folder / "model.db", SqlStore.open))
        store = await stack.enter_async_context(contextlib.aclosing(opened))
        feed = ChangeFeed()
        # What tests report once stays true, however long they take.
        catalog = Catalog(store, announce=feed.announce, report_interval=timedelta(hours=1))
        reports = Reports(catalog)
        seeds = [
            Seed("base", source, ModelKind.CHAT, context_length=64, aliases=("default",)),
            Seed("writer", source, ModelKind.COMPLETION),
            Seed("vectors", source, ModelKind.EMBEDDING),
        ]
        await plant(catalog, seeds)
        servicer = ModelServicer(
            catalog, reports, Watches(catalog, feed), SourcePolicy(), version="1"
        )
        server = Server(
            ServerSettings(grace_s=1),
            [Registration(add_ModelServiceServicer_to_server, servicer)],
            authenticator=tokens(folder),
        )
        keeping = asyncio.create_task(keep(catalog, reports, feed))
        stack.push_async_callback(_ended, keeping)
        await stack.enter_async_context(server)
        yield server.address


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def started(
    service: Platform, who: Any = TRAINER, request_id: str = "", **wishes: Any
) -> job_pb2.Job:
    """Starts a job on a dataset, unless it is told otherwise."""
    job = {"base_model": "base"} | wishes
    if not {"training_file", "training_dataset"} & job.keys():
        job["training_dataset"] = "lines"
    request = pb.StartJobRequest(job=job, request_id=request_id)
    return await service.stub.StartJob(request, metadata=who)


def id_of(job: job_pb2.Job) -> str:
    return job.name.removeprefix("trainingJobs/")


async def moved(service: Platform, job: job_pb2.Job, state: JobState, **facts: Any) -> Job:
    """Brings a job to a state, as the supervisor does."""

    def change(job: Job) -> Any:
        told = NewEvent(Level.INFO, f"Now {state}.", StateChange(job.state, state))
        return replace(job, state=state, **facts), [told], ()

    return await service.store.jobs.change(id_of(job), None, change)


async def job_in(service: Platform, state: JobState, **wishes: Any) -> job_pb2.Job:
    """Starts a job and brings it to a state."""
    job = await started(service, **wishes)
    for next_state in PATHS[state]:
        await moved(service, job, next_state)
    return job
