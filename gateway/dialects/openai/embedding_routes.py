"""Embeddings and rerank: parse, translate, call, translate back."""

import msgspec
from penstock.inference.v1 import priority_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.default_models import DefaultModel
from gateway.dialects.openai import embedding_answers as answers
from gateway.dialects.openai import embedding_schema as schema
from gateway.dialects.openai import embedding_translate as translate
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.validation import decode
from gateway.vectors import joined


class Embeddings:
    """`POST /v1/embeddings`. A `default_model` serves other prefixes, where it may be left out."""

    def __init__(
        self, settings: Settings, clients: Clients, default_model: DefaultModel | None = None
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._default_model = default_model
        self._decoder = msgspec.json.Decoder(schema.EmbeddingsRequest)
        self._any_model = msgspec.json.Decoder(schema.AnyModelEmbeddingsRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        await self.answer(data, context_of(scope), receive, send)

    async def answer(
        self, data: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        """Answers a request whose body was read."""
        body = await self._parsed(data, context)
        request = translate.to_embed_request(body)
        request.request_id = context.request_id
        if context.background:
            request.priority = priority_pb2.PRIORITY_LOW
        try:
            response = await ask_while_there(
                self._clients.embedding.Embed,
                request,
                context,
                receive,
                self._settings.request_timeout_s,
            )
        except ProblemError as error:
            raise ProblemError(translate.embed_spelling(body)(error.problem)) from None
        await send_json(send, await joined(answers.embeddings(response, body)))

    async def _parsed(self, data: bytes, context: RequestContext) -> schema.EmbeddingsRequest:
        if self._default_model is None:
            return decode(self._decoder, data)
        body = decode(self._any_model, data)
        if body.model is None:
            body.model = await self._default_model(context)
        return schema.EmbeddingsRequest(**msgspec.structs.asdict(body))


class Rerank:
    """`POST /v1/rerank`, and `POST /v2/rerank` for Cohere's clients."""

    def __init__(self, settings: Settings, clients: Clients, version: str) -> None:
        self._settings = settings
        self._clients = clients
        self._version = version
        self._decoder = msgspec.json.Decoder(schema.RerankRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = translate.to_rerank_request(body)
        request.request_id = context.request_id
        try:
            response = await ask_while_there(
                self._clients.embedding.Rerank,
                request,
                context,
                receive,
                self._settings.request_timeout_s,
            )
        except ProblemError as error:
            raise ProblemError(translate.rerank_spelling()(error.problem)) from None
        answer = answers.reranking(response, body, self._version)
        await send_json(send, msgspec.json.encode(answer))
