"""Runs generations for every dialect: whole answers by RPC, streams by the step stream."""

import asyncio
from typing import TypeVar

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Send

from gateway.bodies import disconnected
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext
from gateway.settings import Settings
from gateway.steps import TextRequest
from gateway.streams import Renderer, stream

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Generations:
    """The inference service, as endpoints use it. A client that leaves ends its generation."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients

    async def chat(
        self, request: inference_pb2.ChatRequest, context: RequestContext, receive: Receive
    ) -> inference_pb2.ChatResponse:
        """Answers a conversation.

        Raises:
            ProblemError: it failed.
            ClientGoneError: the client left.
        """
        return await self._whole(self._clients.inference.Chat, request, context, receive)

    async def complete(
        self, request: inference_pb2.CompleteRequest, context: RequestContext, receive: Receive
    ) -> inference_pb2.CompleteResponse:
        """Continues texts.

        Raises:
            ProblemError: it failed.
            ClientGoneError: the client left.
        """
        return await self._whole(self._clients.inference.Complete, request, context, receive)

    async def stream(
        self,
        request: TextRequest,
        renderer: Renderer,
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers with a stream.

        Raises:
            ProblemError: it failed before anything was sent.
            ClientGoneError: the client left.
        """
        settings = self._settings
        call = self._clients.steps.open(request, context.metadata(), settings.request_timeout_s)
        await stream(
            call,
            renderer,
            receive,
            send,
            ping_interval_s=settings.ping_interval_s,
            slow_reader_s=settings.slow_reader_s,
        )

    async def _whole(
        self,
        method: Method[Request, Answer],
        request: Request,
        context: RequestContext,
        receive: Receive,
    ) -> Answer:
        gone = asyncio.get_running_loop().create_task(disconnected(receive))
        try:
            return await ask(
                method, request, context, timeout_s=self._settings.request_timeout_s, gone=gone
            )
        finally:
            gone.cancel()
