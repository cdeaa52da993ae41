"""The job methods of the training peer: jobs in memory that go on when a test says so.

A base model `fails-REASON-PATH` fails the creation, `no-such-model` is unknown, and a key without
the role is one of `untrusted`. A watched job whose suffix is `breaks` fails after its first event,
`cut` ends without an end, `refused` fails before anything, `forever` never says a word more.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from penstock.training.v1 import file_pb2, job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from tests.integration.gateway.edge_backend import CODES, CREATED, failure

State = job_pb2.Job
ENDED = (State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED)


async def abort(context: Any, reason: str, param: str | None) -> None:
    status = failure(reason, param)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(CODES[reason], status.message, details)


class JobPeer:
    files: dict[str, file_pb2.File]
    requests: list[Any]
    metadata: list[dict[str, str]]
    live: int

    def __init__(self) -> None:
        self.jobs: dict[str, job_pb2.Job] = {}
        self.events: dict[str, list[job_pb2.JobEvent]] = {}
        self.checkpoints: dict[str, list[job_pb2.Checkpoint]] = {}
        self.repeats: dict[str, job_pb2.Job] = {}
        self.untrusted: set[str] = set()
        self.changed = asyncio.Event()

    # --- what tests do

    def put_job(self, **fields: Any) -> str:
        """Keeps a job and returns its ID."""
        number = len(self.jobs) + 1
        job_id = f"ftjob-{number:024d}"
        job = job_pb2.Job(name=f"trainingJobs/{job_id}", **fields)
        job.state = job.state or State.STATE_RUNNING
        job.create_time.seconds = CREATED + number
        self.jobs[job.name] = job
        self.events[job.name] = []
        self.checkpoints[job.name] = []
        return job_id

    def job(self, job_id: str) -> job_pb2.Job:
        return self.jobs[f"trainingJobs/{job_id}"]

    def tell(self, job_id: str, message: str, **fields: Any) -> str:
        """Adds an event and returns its ID."""
        name = f"trainingJobs/{job_id}"
        told = self.events[name]
        event_id = f"ftevent-{len(told) + 1:024d}"
        fields.setdefault("level", job_pb2.JobEvent.LEVEL_INFO)
        event = job_pb2.JobEvent(name=f"{name}/events/{event_id}", message=message, **fields)
        event.create_time.seconds = CREATED + len(told)
        told.append(event)
        self._wake()
        return event_id

    def snap(self, job_id: str, step: int, **metrics: float) -> str:
        """Adds a checkpoint and returns its ID."""
        name = f"trainingJobs/{job_id}"
        checkpoint_id = f"ftckpt_{step:024d}"
        checkpoint = job_pb2.Checkpoint(
            name=f"{name}/checkpoints/{checkpoint_id}",
            step=step,
            metrics=metrics,
            model=f"ft:base:local::abcdefgh:ckpt-step-{step}",
        )
        checkpoint.create_time.seconds = CREATED + step
        self.checkpoints[name].append(checkpoint)
        return checkpoint_id

    def go(self, job_id: str, state: Any) -> None:
        """Takes a job to another state."""
        self.job(job_id).state = state
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    # --- TrainingService

    async def StartJob(self, request: service_pb2.StartJobRequest, context: Any) -> job_pb2.Job:
        await self._enter_job(request, context)
        asked = request.job
        if request.request_id in self.repeats:
            return self.repeats[request.request_id]
        if asked.base_model.startswith("fails-"):
            _, reason, *param = asked.base_model.split("-")
            await abort(context, reason, param[0] if param else None)
        if asked.base_model == "no-such-model":
            await abort(context, "MODEL_NOT_FOUND", "job.base_model")
        for param, name in (
            ("job.training_file", asked.training_file),
            ("job.validation_file", asked.validation_file),
        ):
            if name and name not in self.files:
                await abort(context, "NOT_FOUND", param)
            if name and self.files[name].purpose != file_pb2.FILE_PURPOSE_FINE_TUNE:
                await abort(context, "INVALID_ARGUMENT", param)
        job = self.job(self.put_job(state=State.STATE_VALIDATING_FILES))
        name, made = job.name, job.create_time.seconds
        state = job.state
        job.MergeFrom(asked)
        job.name, job.create_time.seconds, job.state = name, made, state
        if not asked.HasField("seed"):
            job.seed = 42
        if request.request_id:
            self.repeats[request.request_id] = job
        return job

    async def GetJob(self, request: service_pb2.GetJobRequest, context: Any) -> job_pb2.Job:
        await self._enter_job(request, context)
        return await self._job(request.name, context, "name")

    async def ListJobs(
        self, request: service_pb2.ListJobsRequest, context: Any
    ) -> service_pb2.ListJobsResponse:
        await self._enter_job(request, context)
        found, token = await self._page(list(self.jobs.values()), request, context)
        return service_pb2.ListJobsResponse(jobs=found, next_page_token=token)

    async def ListEvents(
        self, request: service_pb2.ListEventsRequest, context: Any
    ) -> service_pb2.ListEventsResponse:
        await self._enter_job(request, context)
        job = await self._job(request.parent, context, "parent")
        found, token = await self._page(self.events[job.name], request, context)
        return service_pb2.ListEventsResponse(events=found, next_page_token=token)

    async def ListCheckpoints(
        self, request: service_pb2.ListCheckpointsRequest, context: Any
    ) -> service_pb2.ListCheckpointsResponse:
        await self._enter_job(request, context)
        job = await self._job(request.parent, context, "parent")
        found, token = await self._page(self.checkpoints[job.name], request, context)
        return service_pb2.ListCheckpointsResponse(checkpoints=found, next_page_token=token)

    async def CancelJob(self, request: service_pb2.CancelJobRequest, context: Any) -> job_pb2.Job:
        return await self._order(request, context, State.STATE_CANCELLED)

    async def PauseJob(self, request: service_pb2.PauseJobRequest, context: Any) -> job_pb2.Job:
        return await self._order(request, context, State.STATE_PAUSED)

    async def ResumeJob(self, request: service_pb2.ResumeJobRequest, context: Any) -> job_pb2.Job:
        return await self._order(request, context, State.STATE_QUEUED)

    async def WatchJob(
        self, request: service_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[service_pb2.WatchJobEvent]:
        await self._enter_job(request, context)
        job = await self._job(request.name, context, "name")
        told = self.events[job.name]
        at = 0 if request.from_start else len(told)
        if request.resume_after:
            names = [event.name for event in told]
            if request.resume_after not in names:
                await abort(context, "INVALID_ARGUMENT", "resume_after")
            at = names.index(request.resume_after) + 1
        if job.suffix == "refused":
            await abort(context, "QUEUE_FULL", None)
        self.live += 1
        try:
            yield service_pb2.WatchJobEvent(job=job)
            while True:
                changed = self.changed
                for event in told[at:]:
                    at += 1
                    yield service_pb2.WatchJobEvent(happened=event)
                    if job.suffix == "breaks":
                        await abort(context, "INTERNAL", None)
                if job.suffix == "cut":
                    return
                if job.state in ENDED:
                    yield service_pb2.WatchJobEvent(job=job)
                    yield service_pb2.WatchJobEvent(finish=service_pb2.JobFinish(job=job))
                    return
                if job.suffix == "forever":
                    heartbeat = service_pb2.WatchJobEvent()
                    heartbeat.heartbeat.seconds = 15
                    yield heartbeat
                    await asyncio.Event().wait()
                await changed.wait()
        finally:
            self.live -= 1

    async def _order(self, request: Any, context: Any, state: Any) -> job_pb2.Job:
        await self._enter_job(request, context)
        job = await self._job(request.name, context, "name")
        if job.state in ENDED and job.state != state:
            await abort(context, "FAILED_PRECONDITION", None)
        self.go(job.name.removeprefix("trainingJobs/"), state)
        return job

    async def _page(self, items: list[Any], request: Any, context: Any) -> tuple[list[Any], str]:
        found = items[::-1]
        start = int(request.page_token or 0)
        if request.after:
            names = [item.name for item in found]
            if request.after not in names:
                await abort(context, "INVALID_ARGUMENT", "after")
            start = names.index(request.after) + 1
        end = start + request.page_size
        return found[start:end], str(end) if end < len(found) else ""

    async def _job(self, name: str, context: Any, param: str) -> job_pb2.Job:
        if "/" in name.removeprefix("trainingJobs/"):
            await abort(context, "INVALID_ARGUMENT", param)
        if name not in self.jobs:
            await abort(context, "NOT_FOUND", param)
        return self.jobs[name]

    async def _enter_job(self, request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.requests.append(request)
        self.metadata.append(metadata)
        if metadata.get("authorization") in self.untrusted:
            await abort(context, "PERMISSION_DENIED", None)
