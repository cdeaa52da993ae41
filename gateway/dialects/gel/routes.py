"""The endpoints of the dialect: find the branch, check, translate, call, translate back."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import msgspec
from penstock.embedding.v1 import embedding_service_pb2
from penstock.retrieval.v1 import answer_pb2, retrieval_service_pb2
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.gel import answers, checks, schema, translate
from gateway.dialects.gel.answer_stream import HEADERS, AnswerStream
from gateway.dialects.gel.branches import Branches
from gateway.dialects.gel.credentials import caller_of
from gateway.dialects.gel.envelope import GelDialect
from gateway.dialects.gel.paths import target_of
from gateway.dialects.gel.sign_in import SignIn
from gateway.errors import Problem, ProblemError, unavailable
from gateway.guard import Guard, identified
from gateway.relays import CUT_SHORT, EventCall, EventReader, relay
from gateway.settings import Settings
from gateway.validation import decode
from gateway.vectors import joined, vector_list

Request = TypeVar(
    "Request", embedding_service_pb2.EmbedRequest, retrieval_service_pb2.AnswerRequest
)
Answer = TypeVar("Answer")


def routes(
    settings: Settings, clients: Clients, guard: Guard, dialect: GelDialect
) -> Sequence[BaseRoute]:
    """The routes of the dialect. Branches are routed by their own paths, which may be encoded."""
    branch = BranchAi(settings, clients, guard, dialect)
    sign_in = SignIn(guard.authenticator, settings.service_token)
    return [
        Route("/branch/{rest:path}", branch),
        Route("/db/{rest:path}", branch),
        Route("/auth/token", sign_in),
    ]


class BranchAi:
    """`POST /branch/{branch}/ai/embeddings` and `.../rag`."""

    def __init__(
        self, settings: Settings, clients: Clients, guard: Guard, dialect: GelDialect
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._guard = guard
        self._dialect = dialect
        self._branches = Branches(guard.authenticator.tokens, clients)
        self._embeddings = msgspec.json.Decoder(schema.BranchEmbeddingsRequest)
        self._rag = msgspec.json.Decoder(schema.RagRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if not self._dialect.owns(scope["path"]):
            raise HTTPException(404)
        target = target_of(scope)
        if scope["method"] != "POST":
            raise ProblemError(
                Problem("METHOD_NOT_ALLOWED", "Invalid request method", allow="POST")
            )
        context = context_of(scope)
        caller = await identified(caller_of, self._guard.authenticator, context)
        await self._guard.admit(context, self._dialect, caller)
        tenant = await self._branches.tenant_of(target.branch, context)
        content_type = context.headers.get("content-type", "").partition(";")[0]
        if content_type.strip().lower() != "application/json":
            raise ProblemError(Problem("NOT_JSON", "Expected application/json input"))
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        try:
            if target.operation == "rag":
                await self._answer(data, tenant, context, receive, send)
            else:
                await self._embed(data, context, receive, send)
        except ProblemError as error:
            raise ProblemError(translate.respelled(error.problem)) from None

    async def _embed(
        self, data: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        checks.check_embeddings(data)
        body = decode(self._embeddings, data)
        request = translate.to_embed_request(body)
        request.request_id = context.request_id

        async def ask(
            request: embedding_service_pb2.EmbedRequest,
        ) -> embedding_service_pb2.EmbedResponse:
            method = self._clients.embedding.Embed
            timeout_s = self._settings.request_timeout_s
            return await ask_while_there(method, request, context, receive, timeout_s)

        response = await _with_model(request, ask)
        await send_json(send, await joined(vector_list(response, body.model)))

    async def _answer(
        self, data: bytes, tenant: str, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        checks.check_rag(data)
        body = decode(self._rag, data)
        request = translate.to_answer_request(body, tenant)
        request.request_id = context.request_id
        scored = translate.wants_logprobs(body)

        async def whole(request: retrieval_service_pb2.AnswerRequest) -> bytes:
            return await _whole(
                self._call(request, context),
                answers.WholeAnswer(body.model, scored=scored),
                receive,
            )

        async def streamed(request: retrieval_service_pb2.AnswerRequest) -> None:
            await relay(
                self._call(request, context),
                AnswerStream(body.model, scored=scored),
                receive,
                send,
                headers=HEADERS,
                ping_interval_s=self._settings.ping_interval_s,
                slow_reader_s=self._settings.slow_reader_s,
            )

        try:
            if body.stream:
                await _with_model(request, streamed)
                return
            answer = await _with_model(request, whole)
        except ProblemError as error:
            raise ProblemError(_of_query(error.problem)) from None
        await send_json(send, answer)

    def _call(
        self, request: retrieval_service_pb2.AnswerRequest, context: RequestContext
    ) -> EventCall[answer_pb2.AnswerEvent]:
        metadata = grpc.aio.Metadata(*context.metadata().items())
        timeout_s = context.within(self._settings.request_timeout_s)
        return self._clients.retrieval.Answer(request, timeout=timeout_s, metadata=metadata)


async def _whole(
    call: EventCall[answer_pb2.AnswerEvent], answer: answers.WholeAnswer, receive: Receive
) -> bytes:
    async with EventReader(call, receive) as reader:
        while not answer.finished:
            event = await reader.read()
            if event is None:
                raise ProblemError(unavailable(CUT_SHORT))
            answer.add(event)
    return answer.body()


async def _with_model(request: Request, act: Callable[[Request], Awaitable[Answer]]) -> Answer:
    """Tries the whole name of a model, then, of `provider:name`, the name.

    Raises:
        ProblemError: it failed; an unknown model is told by its whole name.
    """
    _, _, name = request.model.partition(":")
    try:
        return await act(request)
    except ProblemError as error:
        if not name or error.problem.reason != "MODEL_NOT_FOUND":
            raise
        unknown = error
    request.model = name
    try:
        return await act(request)
    except ProblemError as error:
        raise unknown if error.problem.reason == "MODEL_NOT_FOUND" else error from None


def _of_query(problem: Problem) -> Problem:
    """A query that names what isn't there is a bad request; a branch that isn't, is not found."""
    if problem.reason != "NOT_FOUND" or problem.param == "parent":
        return problem
    return Problem("INVALID_ARGUMENT", problem.message, problem.param)
