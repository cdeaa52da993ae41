"""Chat and generate: parse, translate, call, translate back."""

from collections.abc import Awaitable, Callable

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.ollama import answer_schema, answers, schema, translate
from gateway.dialects.ollama.line_stream import HEADERS, LineStream
from gateway.dialects.ollama.model_routes import known_model
from gateway.dialects.ollama.names import with_model
from gateway.errors import ProblemError
from gateway.generations import Generations
from gateway.settings import Settings
from gateway.spelling import Spelling
from gateway.steps import TextRequest
from gateway.validation import decode

_Body = schema.OllamaChatRequest | schema.OllamaGenerateRequest


class _Text:
    """What both have in common. A request that says nothing of `stream` gets a whole answer."""

    def __init__(self, settings: Settings, clients: Clients, spelling: Spelling) -> None:
        self._limit = settings.max_body_bytes
        self._clients = clients
        self._generations = Generations(settings, clients)
        self._spelling = spelling

    async def _stream(
        self,
        request: TextRequest,
        body: _Body,
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        await self._generations.stream(
            request,
            LineStream(body, self._spelling),
            context,
            receive,
            send,
            pings=False,
            headers=HEADERS,
        )

    async def _tried(
        self,
        request: TextRequest,
        context: RequestContext,
        act: Callable[[], Awaitable[None]],
    ) -> None:
        """Does it with the model that is meant, and spells what goes wrong."""
        request.request_id = context.request_id
        asked = request.model

        async def with_name(name: str) -> None:
            request.model = name
            await act()

        try:
            await with_model(request.model, with_name)
        except ProblemError as error:
            if translate.refuses_thoughts(error.problem):
                raise ProblemError(translate.thoughtless(asked)) from None
            raise ProblemError(self._spelling(error.problem)) from None

    async def _loaded(self, body: _Body, context: RequestContext) -> answer_schema.DoneReason:
        """Answers who wants a model loaded, or its memory back: it is there, and stays."""
        await known_model(self._clients, body.model, context)
        return "unload" if body.keep_alive in (0, "0") else "load"


class Chat(_Text):
    """`POST /api/chat`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        super().__init__(settings, clients, translate.chat_spelling)
        self._decoder = msgspec.json.Decoder(schema.OllamaChatRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        if not body.messages:
            answer = answers.nothing_said(body.model, await self._loaded(body, context))
            await send_json(send, msgspec.json.encode(answer))
            return
        request = translate.to_chat_request(body)

        async def act() -> None:
            if body.stream:
                await self._stream(request, body, context, receive, send)
                return
            response = await self._generations.chat(request, context, receive)
            await send_json(send, msgspec.json.encode(answers.chat(response, body)))

        await self._tried(request, context, act)


class Generate(_Text):
    """`POST /api/generate`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        super().__init__(settings, clients, translate.generate_spelling)
        self._decoder = msgspec.json.Decoder(schema.OllamaGenerateRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        if not body.prompt and not body.images:
            answer = answers.nothing_generated(body.model, await self._loaded(body, context))
            await send_json(send, msgspec.json.encode(answer))
            return
        if not translate.continues(body):
            try:
                request = translate.to_answer_request(body)
                await self._run(request, body, context, receive, send)
                return
            except ProblemError as error:
                if not translate.may_continue(body, error.problem):
                    raise
        request = translate.to_complete_request(body)
        await self._run(request, body, context, receive, send)

    async def _run(
        self,
        request: TextRequest,
        body: schema.OllamaGenerateRequest,
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        async def act() -> None:
            if body.stream:
                await self._stream(request, body, context, receive, send)
                return
            if isinstance(request, inference_pb2.ChatRequest):
                response = await self._generations.chat(request, context, receive)
            else:
                response = await self._generations.complete(request, context, receive)
            await send_json(send, msgspec.json.encode(answers.generated(response, body)))

        await self._tried(request, context, act)
