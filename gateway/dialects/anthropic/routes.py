"""The endpoints under `/v1/messages`: parse, translate, call, translate back."""

from collections.abc import Sequence

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.api_keys import caller_of
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import context_of
from gateway.dialects.anthropic import answer_schema as answers
from gateway.dialects.anthropic import schema, translate
from gateway.dialects.anthropic.answers import message
from gateway.dialects.anthropic.envelope import PATH, AnthropicDialect
from gateway.dialects.anthropic.message_stream import PING, MessageStream
from gateway.errors import ProblemError
from gateway.generations import Generations
from gateway.guard import Guard
from gateway.settings import Settings
from gateway.validation import decode


def routes(
    settings: Settings, clients: Clients, guard: Guard, dialect: AnthropicDialect
) -> Sequence[BaseRoute]:
    """The routes of the dialect."""
    return [
        Route(path, guard.protect(endpoint, dialect, caller_of), methods=["POST"])
        for path, endpoint in (
            (PATH, Messages(settings, clients)),
            (f"{PATH}/count_tokens", CountTokens(settings, clients)),
        )
    ]


class Messages:
    """`POST /v1/messages`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._generations = Generations(settings, clients)
        self._decoder = msgspec.json.Decoder(schema.MessagesRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        request, spelling = translate.to_chat_request(body)
        request.request_id = context.request_id
        try:
            if body.stream:
                renderer = MessageStream(body, context.request_id, spelling)
                await self._generations.stream(request, renderer, context, receive, send, ping=PING)
                return
            response = await self._generations.chat(request, context, receive)
        except ProblemError as error:
            raise ProblemError(spelling(error.problem)) from None
        await send_json(send, msgspec.json.encode(message(response, body)))


class CountTokens:
    """`POST /v1/messages/count_tokens`: renders the prompt and counts its tokens."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._stub = clients.inference
        self._decoder = msgspec.json.Decoder(schema.CountTokensRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context, timeout_s = context_of(scope), self._settings.request_timeout_s
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        request, spelling = translate.to_template_request(body)
        try:
            rendered = await ask_while_there(
                self._stub.ApplyTemplate, request, context, receive, timeout_s
            )
            text = inference_pb2.TokenizeRequest(model=body.model, text=rendered.prompt)
            tokens = await ask_while_there(self._stub.Tokenize, text, context, receive, timeout_s)
        except ProblemError as error:
            raise ProblemError(spelling(error.problem)) from None
        await send_json(send, msgspec.json.encode(answers.TokenCount(len(tokens.ids))))
