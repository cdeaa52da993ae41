"""Embeddings and rerank: parse, translate, call, translate back."""

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import context_of
from gateway.dialects.openai import embedding_answers as answers
from gateway.dialects.openai import embedding_schema as schema
from gateway.dialects.openai import embedding_translate as translate
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.validation import decode
from gateway.vectors import joined


class Embeddings:
    """`POST /v1/embeddings`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients
        self._decoder = msgspec.json.Decoder(schema.EmbeddingsRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = translate.to_embed_request(body)
        request.request_id = context.request_id
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
