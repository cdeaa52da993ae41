"""Batches: parse, translate, call, translate back."""

from typing import TypeVar

import msgspec
from penstock.training.v1 import batch_pb2, batch_service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.batch_owners import BatchOwners
from gateway.bodies import read_body
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import batch_answers as answers
from gateway.dialects.openai import batch_schema as schema
from gateway.dialects.openai import batch_translate as translate
from gateway.dialects.openai.fine_tuning_schema import Nothing
from gateway.errors import Problem, ProblemError
from gateway.queries import QueryDecoder
from gateway.settings import Settings
from gateway.validation import decode

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class KeptBatches:
    """The service that keeps batches, with its errors in the dialect's words."""

    def __init__(self, settings: Settings, clients: Clients, owners: BatchOwners) -> None:
        self.settings = settings
        self.stub = clients.batches
        self.owners = owners

    async def ask(
        self,
        method: Method[Request, Answer],
        request: Request,
        context: RequestContext,
        batch_id: str | None = None,
    ) -> Answer:
        """Makes a call about a batch, or about batches."""
        try:
            return await ask(method, request, context)
        except ProblemError as error:
            raise ProblemError(translate.respelled(error.problem, batch_id)) from None


class Batches:
    """`GET` and `POST /v1/batches`."""

    def __init__(self, batches: KeptBatches) -> None:
        self._batches = batches
        self._query = QueryDecoder(schema.BatchesQuery)
        self._decoder = msgspec.json.Decoder(schema.BatchCreate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        if scope["method"] == "POST":
            limit = self._batches.settings.max_body_bytes
            body = decode(self._decoder, await read_body(scope, receive, limit))
            made = await self._create(body, context)
            await send_json(send, msgspec.json.encode(answers.batch_object(made)))
            return
        request = translate.to_list_request(self._query(scope))
        page = await self._batches.ask(self._batches.stub.ListBatches, request, context)
        await send_json(send, msgspec.json.encode(answers.batch_list(page)))

    async def _create(self, body: schema.BatchCreate, context: RequestContext) -> batch_pb2.Batch:
        request = translate.to_create_request(
            body, context.headers.get(translate.KEY_HEADER.lower())
        )
        owners = self._batches.owners
        if owners.available and not owners.may_own(context.principal):
            message = (
                "The requests of a batch run later, with the key that made it, and this credential "
                "can't be kept till then. Make the batch with an API key."
            )
            raise ProblemError(Problem("FAILED_PRECONDITION", message))
        try:
            return await ask(self._batches.stub.CreateBatch, request, context)
        except ProblemError as error:
            raise ProblemError(translate.create_problem(error.problem, body)) from None


class OneBatch:
    """`GET /v1/batches/{batch_id}`."""

    def __init__(self, batches: KeptBatches) -> None:
        self._batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        batch_id: str = scope["path_params"]["batch_id"]
        request = batch_service_pb2.GetBatchRequest(name=translate.batch_name(batch_id))
        method = self._batches.stub.GetBatch
        batch = await self._batches.ask(method, request, context_of(scope), batch_id)
        await send_json(send, msgspec.json.encode(answers.batch_object(batch)))


class BatchCancel:
    """`POST /v1/batches/{batch_id}/cancel`."""

    def __init__(self, batches: KeptBatches) -> None:
        self._batches = batches
        self._decoder = msgspec.json.Decoder(Nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        limit = self._batches.settings.max_body_bytes
        decode(self._decoder, await read_body(scope, receive, limit))
        batch_id: str = scope["path_params"]["batch_id"]
        request = batch_service_pb2.CancelBatchRequest(name=translate.batch_name(batch_id))
        method = self._batches.stub.CancelBatch
        batch = await self._batches.ask(method, request, context_of(scope), batch_id)
        await send_json(send, msgspec.json.encode(answers.batch_object(batch)))
