"""Fine-tuning jobs: parse, translate, call, translate back."""

from collections.abc import Callable
from typing import Literal, TypeVar

import grpc
import msgspec
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import fine_tuning_answers as answers
from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.dialects.openai import fine_tuning_translate as translate
from gateway.dialects.openai.fine_tuning_stream import JobEventStream
from gateway.errors import ProblemError
from gateway.queries import QueryDecoder
from gateway.relays import relay
from gateway.settings import Settings
from gateway.sse import HEADERS
from gateway.validation import decode

_LARGEST_PAGE = 1000
_WATCH_S = 24 * 3600.0
"""Deadline of a stream of events: who wants more goes on `after` the last."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class TrainingJobs:
    """The service that trains, with its errors in the dialect's words."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self.stub = clients.training

    async def ask(
        self,
        method: Method[Request, Answer],
        request: Request,
        context: RequestContext,
        job_id: str | None = None,
    ) -> Answer:
        """Makes a call about a job, or about jobs."""
        try:
            return await ask(method, request, context, timeout_s=self.settings.request_timeout_s)
        except ProblemError as error:
            raise ProblemError(translate.respelled(error.problem, job_id)) from None


class FineTuningJobs:
    """`GET` and `POST /v1/fine_tuning/jobs`."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs
        self._query = QueryDecoder(schema.FineTuningJobsQuery)
        self._decoder = msgspec.json.Decoder(schema.FineTuningJobCreate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        if scope["method"] == "POST":
            limit = self._jobs.settings.max_body_bytes
            body = decode(self._decoder, await read_body(scope, receive, limit))
            started = await self._start(body, context)
            await send_json(send, msgspec.json.encode(answers.job_object(started)))
            return
        query = self._query(scope)
        matches = translate.label_filter(query)
        request = translate.to_list_request(query)
        if matches is None:
            page = await self._jobs.ask(self._jobs.stub.ListJobs, request, context)
        else:
            page = await self._matching(request, matches, context)
        await send_json(send, msgspec.json.encode(answers.job_list(page)))

    async def _start(
        self, body: schema.FineTuningJobCreate, context: RequestContext
    ) -> job_pb2.Job:
        key = context.headers.get(translate.KEY_HEADER.lower())
        request = translate.to_start_request(body, key)
        timeout_s = self._jobs.settings.request_timeout_s
        try:
            return await ask(self._jobs.stub.StartJob, request, context, timeout_s=timeout_s)
        except ProblemError as error:
            raise ProblemError(translate.start_problem(error.problem, body)) from None

    async def _matching(
        self,
        request: service_pb2.ListJobsRequest,
        matches: Callable[[job_pb2.Job], bool],
        context: RequestContext,
    ) -> service_pb2.ListJobsResponse:
        """Looks through the list for a page of jobs that match."""
        wanted, found = request.page_size, service_pb2.ListJobsResponse()
        request.page_size = _LARGEST_PAGE
        while True:
            page = await self._jobs.ask(self._jobs.stub.ListJobs, request, context)
            found.jobs.extend(filter(matches, page.jobs))
            if len(found.jobs) > wanted or not page.next_page_token:
                break
            request.page_token = page.next_page_token
            request.after = ""
        if len(found.jobs) > wanted:
            del found.jobs[wanted:]
            found.next_page_token = "more"
        return found


class OneFineTuningJob:
    """`GET /v1/fine_tuning/jobs/{fine_tuning_job_id}`."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        job_id: str = scope["path_params"]["job_id"]
        request = service_pb2.GetJobRequest(name=translate.job_name(job_id))
        job = await self._jobs.ask(self._jobs.stub.GetJob, request, context_of(scope), job_id)
        await send_json(send, msgspec.json.encode(answers.job_object(job)))


class FineTuningOrder:
    """`POST /v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel`, `…/pause` or `…/resume`."""

    def __init__(self, jobs: TrainingJobs, order: Literal["cancel", "pause", "resume"]) -> None:
        self._jobs = jobs
        self._order = order
        self._decoder = msgspec.json.Decoder(schema.Nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        limit = self._jobs.settings.max_body_bytes
        decode(self._decoder, await read_body(scope, receive, limit))
        job = await self._give(scope["path_params"]["job_id"], context_of(scope))
        await send_json(send, msgspec.json.encode(answers.job_object(job)))

    async def _give(self, job_id: str, context: RequestContext) -> job_pb2.Job:
        name, stub = translate.job_name(job_id), self._jobs.stub
        if self._order == "cancel":
            request = service_pb2.CancelJobRequest(name=name)
            return await self._jobs.ask(stub.CancelJob, request, context, job_id)
        if self._order == "pause":
            request = service_pb2.PauseJobRequest(name=name)
            return await self._jobs.ask(stub.PauseJob, request, context, job_id)
        request = service_pb2.ResumeJobRequest(name=name)
        return await self._jobs.ask(stub.ResumeJob, request, context, job_id)


class FineTuningEvents:
    """`GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/events`."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs
        self._query = QueryDecoder(schema.FineTuningEventsQuery)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        job_id: str = scope["path_params"]["job_id"]
        query = self._query(scope)
        if query.stream and scope["method"] == "GET":
            await self._stream(query, job_id, context_of(scope), receive, send)
            return
        request = translate.to_events_request(query, job_id)
        method = self._jobs.stub.ListEvents
        page = await self._jobs.ask(method, request, context_of(scope), job_id)
        await send_json(send, msgspec.json.encode(answers.event_list(page)))

    async def _stream(
        self,
        query: schema.FineTuningEventsQuery,
        job_id: str,
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        request = translate.to_watch_request(query, job_id)
        metadata = grpc.aio.Metadata(*context.metadata().items())
        settings = self._jobs.settings
        try:
            await relay(
                self._jobs.stub.WatchJob(
                    request, timeout=context.within(_WATCH_S), metadata=metadata
                ),
                JobEventStream(job_id),
                receive,
                send,
                headers=HEADERS,
                ping_interval_s=settings.ping_interval_s,
                slow_reader_s=settings.slow_reader_s,
            )
        except ProblemError as error:
            raise ProblemError(translate.respelled(error.problem, job_id)) from None


class FineTuningCheckpoints:
    """`GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints`."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs
        self._query = QueryDecoder(schema.FineTuningCheckpointsQuery)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        job_id: str = scope["path_params"]["job_id"]
        request = translate.to_checkpoints_request(self._query(scope), job_id)
        method = self._jobs.stub.ListCheckpoints
        page = await self._jobs.ask(method, request, context_of(scope), job_id)
        await send_json(send, msgspec.json.encode(answers.checkpoint_list(page)))
