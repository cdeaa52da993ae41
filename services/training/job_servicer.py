"""The job methods of TrainingService: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing

from penstock.training.v1 import job_pb2 as job_pb
from penstock.training.v1 import training_service_pb2 as pb
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceServicer

from services.errors import Unavailable
from services.rpc.access import Role, draining, requires
from services.training.callers import Context, caller
from services.training.job_convert import (
    from_checkpoint,
    from_event,
    from_job,
    from_watch,
    to_spec,
    to_state,
)
from services.training.job_names import parse_checkpoint, parse_event, parse_job
from services.training.jobs import Jobs
from services.training.paging import Asked
from services.training.watching import Finished, Watches


class JobServicer(TrainingServiceServicer):
    """Serves the job methods."""

    def __init__(self, jobs: Jobs, watches: Watches) -> None:
        self._jobs = jobs
        self._watches = watches

    @requires(Role.TRAINER)
    async def StartJob(self, request: pb.StartJobRequest, context: Context) -> job_pb.Job:
        """Starts a job."""
        spec = to_spec(request.job)
        return from_job(await self._jobs.start(spec, request.request_id, caller()))

    @requires(Role.TRAINER)
    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> job_pb.Job:
        """Gets a job."""
        return from_job(await self._jobs.get(parse_job(request.name, "name"), caller()))

    @requires(Role.TRAINER)
    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Lists jobs."""
        after = parse_job(request.after, "after") if request.after else ""
        asked = Asked(request.page_size, request.page_token, after)
        states = [to_state(state) for state in request.states]
        page = await self._jobs.list(asked, states, caller())
        return pb.ListJobsResponse(
            jobs=[from_job(job) for job in page.items], next_page_token=page.next_page_token
        )

    @requires(Role.TRAINER)
    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> job_pb.Job:
        """Cancels a job."""
        return from_job(await self._jobs.cancel(parse_job(request.name, "name"), caller()))

    @requires(Role.TRAINER)
    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> job_pb.Job:
        """Pauses a job."""
        return from_job(await self._jobs.pause(parse_job(request.name, "name"), caller()))

    @requires(Role.TRAINER)
    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> job_pb.Job:
        """Lets a job go on."""
        return from_job(await self._jobs.resume(parse_job(request.name, "name"), caller()))

    @requires(Role.TRAINER)
    async def ListEvents(
        self, request: pb.ListEventsRequest, context: Context
    ) -> pb.ListEventsResponse:
        """Lists what happened to a job."""
        id = parse_job(request.parent, "parent")
        after = parse_event(request.after, id, "after") if request.after else ""
        asked = Asked(request.page_size, request.page_token, after)
        page = await self._jobs.events(id, asked, caller())
        return pb.ListEventsResponse(
            events=[from_event(event) for event in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.TRAINER)
    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncGenerator[pb.WatchJobEvent, None]:
        """Streams what happens to a job."""
        id = parse_job(request.name, "name")
        after = (
            parse_event(request.resume_after, id, "resume_after") if request.resume_after else ""
        )
        events = self._watches.watch(
            id, caller(), resume_after=after, from_start=request.from_start, end=draining()
        )
        async with aclosing(events):
            async for event in events:
                yield from_watch(event)
                if isinstance(event, Finished):
                    return
        raise Unavailable("The server is shutting down. Watch again.", retry_after_s=1)

    @requires(Role.TRAINER)
    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: Context
    ) -> pb.ListCheckpointsResponse:
        """Lists the checkpoints of a job."""
        id = parse_job(request.parent, "parent")
        after = parse_checkpoint(request.after, id, "after") if request.after else ""
        asked = Asked(request.page_size, request.page_token, after)
        page = await self._jobs.checkpoints(id, asked, caller())
        return pb.ListCheckpointsResponse(
            checkpoints=[from_checkpoint(checkpoint) for checkpoint in page.items],
            next_page_token=page.next_page_token,
        )
