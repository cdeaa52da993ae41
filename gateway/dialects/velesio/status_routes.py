"""Models, queues and the banner."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

import msgspec
from penstock.embedding.v1 import embedding_service_pb2 as embedding_pb2
from penstock.image.v1 import image_service_pb2 as image_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import queue_pb2
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as training_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.default_models import listed_models
from gateway.dialects.velesio import answer_schema as answers
from gateway.dialects.velesio.status import model_lists, queue_answer
from gateway.errors import ProblemError
from gateway.health import platform_version

_PAGE_SIZE = 1000
_MOST_PAGES = 20
_TOLD = (
    job_pb2.Job.STATE_VALIDATING_FILES,
    job_pb2.Job.STATE_QUEUED,
    job_pb2.Job.STATE_RUNNING,
    job_pb2.Job.STATE_SUCCEEDED,
)
_SILENT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "PERMISSION_DENIED"})
"""Why a service's part is left out. Jobs are for trainers: others don't see what they may not."""

Told = TypeVar("Told")


class ModelLists:
    """`GET /models`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        found = await listed_models(self._clients, context_of(scope))
        await send_json(send, msgspec.json.encode(model_lists(found)))


class QueueStatus:
    """`GET /queue/status`: the sum of what the services tell. One that is away is left out."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        *told, jobs = await asyncio.gather(
            _told(self._texts(context)),
            _told(self._vectors(context)),
            _told(self._images(context)),
            _told(self._jobs(context)),
        )
        statuses = [status for status in told if isinstance(status, queue_pb2.QueueStatus)]
        if isinstance(told[0], ProblemError) and not statuses:
            raise told[0]
        answer = queue_answer(statuses, jobs if isinstance(jobs, list) else [], time.time())
        await send_json(send, msgspec.json.encode(answer))

    async def _texts(self, context: RequestContext) -> queue_pb2.QueueStatus:
        request = inference_pb2.GetQueueStatusRequest()
        return await ask(self._clients.inference.GetQueueStatus, request, context)

    async def _vectors(self, context: RequestContext) -> queue_pb2.QueueStatus:
        request = embedding_pb2.GetQueueStatusRequest()
        return await ask(self._clients.embedding.GetQueueStatus, request, context)

    async def _images(self, context: RequestContext) -> queue_pb2.QueueStatus:
        request = image_pb2.GetQueueStatusRequest()
        return await ask(self._clients.images.GetQueueStatus, request, context)

    async def _jobs(self, context: RequestContext) -> list[job_pb2.Job]:
        request = training_pb2.ListJobsRequest(states=_TOLD, page_size=_PAGE_SIZE)
        found: list[job_pb2.Job] = []
        for _ in range(_MOST_PAGES):
            page = await ask(self._clients.training.ListJobs, request, context)
            found.extend(page.jobs)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found


class Banner:
    """`GET /`."""

    def __init__(self, endpoints: list[str]) -> None:
        answer = answers.Banner(
            "Penstock serves language, embedding and image models.",
            "running",
            platform_version(),
            endpoints,
        )
        self._body = msgspec.json.encode(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await send_json(send, self._body)


async def _told(asked: Awaitable[Told]) -> Told | ProblemError:
    """Waits for an answer; returns why there is none that may be missing."""
    try:
        return await asked
    except ProblemError as error:
        if error.problem.reason not in _SILENT:
            raise
        return error
