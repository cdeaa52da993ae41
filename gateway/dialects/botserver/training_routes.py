"""Training jobs: parse, translate, call, translate back."""

from collections.abc import Awaitable

import msgspec
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import context_of
from gateway.dialects.botserver import training_answers as answers
from gateway.dialects.botserver import training_schema as schema
from gateway.dialects.botserver import training_translate as translate
from gateway.dialects.botserver.repeats import repeat_id
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.validation import decode


class StartTraining:
    """`POST /api/v1/ai/training/start`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._stub = clients.training
        self._decoder = msgspec.json.Decoder(schema.TrainingStart)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        request = translate.to_start_request(decode(self._decoder, data), repeat_id(context))
        timeout_s = self._settings.request_timeout_s
        try:
            job = await ask(self._stub.StartJob, request, context, timeout_s=timeout_s)
        except ProblemError as error:
            raise ProblemError(translate.spelled(error.problem)) from None
        await send_json(send, msgspec.json.encode(answers.started(job)), 202)


class TrainingStatus:
    """`GET /api/v1/ai/training/{job_id}/status`."""

    def __init__(self, clients: Clients) -> None:
        self._stub = clients.training

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        job_id: str = scope["path_params"]["job_id"]
        request = service_pb2.GetJobRequest(name=f"{translate.JOBS}{job_id}")
        job = await _told(ask(self._stub.GetJob, request, context_of(scope)), job_id)
        await send_json(send, msgspec.json.encode(answers.status(job)))


class CancelTraining:
    """`POST /api/v1/ai/training/{job_id}/cancel`."""

    def __init__(self, clients: Clients) -> None:
        self._stub = clients.training

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        job_id: str = scope["path_params"]["job_id"]
        request = service_pb2.CancelJobRequest(name=f"{translate.JOBS}{job_id}")
        job = await _told(ask(self._stub.CancelJob, request, context_of(scope)), job_id)
        answer = msgspec.json.encode(answers.status(job))
        await send_json(send, answer, answers.cancel_status(job))


async def _told(call: Awaitable[job_pb2.Job], job_id: str) -> job_pb2.Job:
    """Waits for what is done to a job, and tells of an unknown one as the dialect does."""
    try:
        return await call
    except ProblemError as error:
        raise ProblemError(translate.unknown_job(error.problem, job_id)) from None
