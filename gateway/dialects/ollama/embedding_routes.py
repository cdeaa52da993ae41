"""Vectors: parse, translate, call, translate back."""

import msgspec
from penstock.embedding.v1 import embedding_service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.ollama import answers, schema, translate
from gateway.dialects.ollama.model_routes import known_model
from gateway.dialects.ollama.names import with_model
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.spelling import Spelling
from gateway.validation import decode
from gateway.vectors import joined


class _Vectors:
    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients

    async def _embed(
        self,
        request: embedding_service_pb2.EmbedRequest,
        context: RequestContext,
        receive: Receive,
        spelling: Spelling,
    ) -> embedding_service_pb2.EmbedResponse:
        """Asks for vectors. Where there is nothing to embed, the model need only be there."""
        if not any(item.text for item in request.inputs):
            await known_model(self._clients, request.model, context)
            return embedding_service_pb2.EmbedResponse()
        request.request_id = context.request_id

        async def act(name: str) -> embedding_service_pb2.EmbedResponse:
            request.model = name
            timeout_s = self._settings.request_timeout_s
            method = self._clients.embedding.Embed
            return await ask_while_there(method, request, context, receive, timeout_s)

        try:
            return await with_model(request.model, act)
        except ProblemError as error:
            raise ProblemError(spelling(error.problem)) from None


class Embed(_Vectors):
    """`POST /api/embed`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        super().__init__(settings, clients)
        self._decoder = msgspec.json.Decoder(schema.OllamaEmbedRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = translate.to_embed_request(body)
        spelling = translate.embed_spelling(body)
        response = await self._embed(request, context_of(scope), receive, spelling)
        await send_json(send, await joined(answers.embedded(response, body)))


class Embeddings(_Vectors):
    """`POST /api/embeddings`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        super().__init__(settings, clients)
        self._decoder = msgspec.json.Decoder(schema.OllamaEmbeddingsRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = translate.to_embeddings_request(body)
        spelling = translate.embeddings_spelling
        response = await self._embed(request, context_of(scope), receive, spelling)
        await send_json(send, answers.vector(response))
