"""The endpoints under `/v1`: parse, translate, call, translate back."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from penstock.model.v1 import model_service_pb2
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.batch_owners import BatchOwners
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.default_models import listed_models
from gateway.dialects.openai import answer_schema as answers
from gateway.dialects.openai import fields, models, schema, translate
from gateway.dialects.openai.answers import chat_completion, completion
from gateway.dialects.openai.batch_routes import BatchCancel, Batches, KeptBatches, OneBatch
from gateway.dialects.openai.chat_stream import ChatStream
from gateway.dialects.openai.completion_stream import CompletionStream
from gateway.dialects.openai.deployment_routes import Deployments, OneDeployment, Predictions
from gateway.dialects.openai.embedding_routes import Embeddings, Rerank
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.openai.file_routes import FileContent, Files, OneFile, UploadedFiles
from gateway.dialects.openai.fine_tuning_routes import (
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJobs,
    FineTuningOrder,
    OneFineTuningJob,
    TrainingJobs,
)
from gateway.dialects.openai.image_routes import (
    Drawings,
    ImageEdits,
    ImageGenerations,
    ImageVariations,
)
from gateway.dialects.openai.prefixes import V1, Prefix
from gateway.dialects.openai.response_routes import (
    OneResponse,
    ResponseCancel,
    ResponseInputItems,
    Responses,
)
from gateway.dialects.openai.response_search import FileSearches
from gateway.dialects.openai.response_service import StoredResponses
from gateway.dialects.openai.vector_store_attachments import Attachments
from gateway.dialects.openai.vector_store_file_routes import OneVectorStoreFile, VectorStoreFiles
from gateway.dialects.openai.vector_store_routes import (
    OneVectorStore,
    VectorStores,
    VectorStoreSearches,
)
from gateway.dialects.openai.vector_store_service import Retrieval
from gateway.errors import Problem, ProblemError
from gateway.generations import Generations
from gateway.guard import Guard
from gateway.settings import Settings
from gateway.token_room import fitted
from gateway.validation import decode


def routes(
    settings: Settings, clients: Clients, guard: Guard, dialect: OpenAIDialect
) -> Sequence[BaseRoute]:
    """The routes of the dialect."""
    generations = Generations(settings, clients)
    retrieval = Retrieval(settings, clients)
    files = UploadedFiles(settings, clients)
    drawings = Drawings(settings, clients, files)
    attachments = Attachments(retrieval, files)
    jobs = TrainingJobs(settings, clients)
    batches = KeptBatches(settings, clients, BatchOwners(guard.authenticator))
    stored, found = StoredResponses(settings, clients), FileSearches(retrieval)
    store = "/v1/vector_stores/{store_id}"
    job = "/v1/fine_tuning/jobs/{job_id}"
    response = "/v1/responses/{response_id}"
    return [
        Route(path, guard.protect(endpoint, dialect), methods=methods)
        for path, endpoint, methods in (
            ("/v1/chat/completions", ChatCompletions(settings, generations), ["POST"]),
            ("/v1/completions", Completions(settings, generations), ["POST"]),
            ("/v1/responses", Responses(settings, generations, stored, found), ["POST"]),
            (response, OneResponse(stored), ["GET", "DELETE"]),
            (f"{response}/cancel", ResponseCancel(settings, stored), ["POST"]),
            (f"{response}/input_items", ResponseInputItems(stored), ["GET"]),
            ("/v1/embeddings", Embeddings(settings, clients), ["POST"]),
            ("/v1/rerank", Rerank(settings, clients, "1"), ["POST"]),
            ("/v2/rerank", Rerank(settings, clients, "2"), ["POST"]),
            ("/v1/images/generations", ImageGenerations(drawings), ["POST"]),
            ("/v1/images/edits", ImageEdits(drawings), ["POST"]),
            ("/v1/images/variations", ImageVariations(drawings), ["POST"]),
            (f"{store}/search", VectorStoreSearches(retrieval), ["POST"]),
            (f"{store}/files", VectorStoreFiles(retrieval, attachments), ["GET", "POST"]),
            (f"{store}/files/{{file_id:path}}", OneVectorStoreFile(retrieval), ["GET", "DELETE"]),
            (store, OneVectorStore(retrieval), ["GET", "POST", "DELETE"]),
            ("/v1/vector_stores", VectorStores(retrieval, attachments), ["GET", "POST"]),
            ("/v1/files", Files(files), ["GET", "POST"]),
            ("/v1/files/{file_id}", OneFile(files), ["GET", "DELETE"]),
            ("/v1/files/{file_id}/content", FileContent(files), ["GET"]),
            ("/v1/fine_tuning/jobs", FineTuningJobs(jobs), ["GET", "POST"]),
            (job, OneFineTuningJob(jobs), ["GET"]),
            (f"{job}/cancel", FineTuningOrder(jobs, "cancel"), ["POST"]),
            (f"{job}/pause", FineTuningOrder(jobs, "pause"), ["POST"]),
            (f"{job}/resume", FineTuningOrder(jobs, "resume"), ["POST"]),
            (f"{job}/events", FineTuningEvents(jobs), ["GET"]),
            (f"{job}/checkpoints", FineTuningCheckpoints(jobs), ["GET"]),
            ("/v1/batches", Batches(batches), ["GET", "POST"]),
            ("/v1/batches/{batch_id}", OneBatch(batches), ["GET"]),
            ("/v1/batches/{batch_id}/cancel", BatchCancel(batches), ["POST"]),
            ("/v1/predict", Predictions(settings, clients), ["POST"]),
            ("/v1/deployments", Deployments(clients), ["GET"]),
            (
                "/v1/deployments/{deployment_id:path}",
                OneDeployment(settings, clients),
                ["GET"],
            ),
            ("/v1/models", ModelList(clients), ["GET"]),
            ("/v1/models/{model_id:path}", OneModel(clients), ["GET", "DELETE"]),
        )
    ]


class ChatCompletions:
    """`POST /v1/chat/completions`, and what other prefixes have of it."""

    def __init__(self, settings: Settings, generations: Generations, prefix: Prefix = V1) -> None:
        self._limit = settings.max_body_bytes
        self._generations = generations
        self._prefix = prefix
        self._decoder = msgspec.json.Decoder(schema.ChatCompletionRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context, prefix = context_of(scope), self._prefix
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        await prefix.fill(body, context)
        unlimited = body.max_completion_tokens is None and body.max_tokens is None
        if unlimited:
            body.max_tokens = prefix.max_tokens
        request = translate.to_chat_request(body)
        request.request_id = context.request_id

        async def answer() -> None:
            if body.stream:
                renderer = ChatStream.of(body, prefix.error_frame)
                await self._generations.stream(
                    request, renderer, context, receive, send, pings=prefix.pings
                )
                return
            response = await self._generations.chat(request, context, receive)
            await send_json(send, msgspec.json.encode(chat_completion(response, body)))

        try:
            await fitted(answer, request.sampling, spare=unlimited)
        except ProblemError as error:
            raise ProblemError(fields.chat_spelling(body)(error.problem)) from None


class Completions:
    """`POST /v1/completions`, and what other prefixes have of it."""

    def __init__(self, settings: Settings, generations: Generations, prefix: Prefix = V1) -> None:
        self._limit = settings.max_body_bytes
        self._generations = generations
        self._prefix = prefix
        self._decoder = msgspec.json.Decoder(schema.CompletionRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._limit)
        await self.answer(data, context_of(scope), receive, send)

    async def answer(
        self, data: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        """Answers a request whose body was read."""
        prefix = self._prefix
        body = decode(self._decoder, data)
        await prefix.fill(body, context)
        unlimited = body.max_tokens is None
        if unlimited:
            body.max_tokens = prefix.max_tokens
        request = translate.to_complete_request(body)
        request.request_id = context.request_id

        async def answer() -> None:
            if body.stream:
                renderer = CompletionStream.of(body, prefix.error_frame)
                await self._generations.stream(
                    request, renderer, context, receive, send, pings=prefix.pings
                )
                return
            response = await self._generations.complete(request, context, receive)
            await send_json(send, msgspec.json.encode(completion(response, body)))

        # Under `/v1` the default is documented, and is what there is.
        spare = unlimited and prefix.max_tokens is not None and len(request.prompts) == 1
        try:
            await fitted(answer, request.sampling, spare=spare)
        except ProblemError as error:
            raise ProblemError(fields.completion_spelling(body)(error.problem)) from None


class ModelList:
    """`GET /v1/models`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        found = await listed_models(self._clients, context_of(scope))
        data = [models.to_model(model) for model in found if models.is_listed(model)]
        await send_json(send, msgspec.json.encode(answers.ModelList("list", data)))


class OneModel:
    """`GET` and `DELETE /v1/models/{model}`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        model_id: str = scope["path_params"]["model_id"]
        if not model_id:
            raise ProblemError(Problem("UNKNOWN_URL", "Invalid URL: the ID of a model is missing."))
        try:
            if scope["method"] == "DELETE":
                answer = await self._delete(model_id, context)
            else:
                answer = await self._get(model_id, context)
        except ProblemError as error:
            if error.problem.param != "name" and error.problem.reason != "MODEL_NOT_FOUND":
                raise
            raise ProblemError(replace(error.problem, param="model")) from None
        await send_json(send, msgspec.json.encode(answer))

    async def _get(self, model_id: str, context: RequestContext) -> answers.ModelObject:
        request = model_service_pb2.GetModelRequest(name=models.resource_name(model_id))
        return models.to_model(await ask(self._clients.models.GetModel, request, context))

    async def _delete(self, model_id: str, context: RequestContext) -> answers.ModelDeleted:
        request = model_service_pb2.DeleteModelRequest(name=models.resource_name(model_id))
        await ask(self._clients.models.DeleteModel, request, context)
        return answers.ModelDeleted(model_id, "model", deleted=True)
