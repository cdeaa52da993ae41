"""Runs generations for every dialect, over the step stream.

Only whole answers to large requests take an RPC of their own, whose flow control keeps them from
holding up what others ask.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Send

from gateway.bodies import disconnected
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext
from gateway.settings import Settings
from gateway.steps import TextRequest
from gateway.streams import Renderer, stream
from gateway.wholes import whole_answer

_MOST_SHARED_BYTES = 256 * 1024
"""Largest request that goes over the step stream for its whole answer."""

Request = TypeVar("Request", inference_pb2.ChatRequest, inference_pb2.CompleteRequest)
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
        return await self._whole(
            self._clients.inference.Chat,
            inference_pb2.ChatResponse.FromString,
            request,
            context,
            receive,
        )

    async def complete(
        self, request: inference_pb2.CompleteRequest, context: RequestContext, receive: Receive
    ) -> inference_pb2.CompleteResponse:
        """Continues texts.

        Raises:
            ProblemError: it failed.
            ClientGoneError: the client left.
        """
        return await self._whole(
            self._clients.inference.Complete,
            inference_pb2.CompleteResponse.FromString,
            request,
            context,
            receive,
        )

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
        parse: Callable[[bytes], Answer],
        request: Request,
        context: RequestContext,
        receive: Receive,
    ) -> Answer:
        timeout_s = self._settings.request_timeout_s
        gone = asyncio.get_running_loop().create_task(disconnected(receive))
        try:
            if request.ByteSize() > _MOST_SHARED_BYTES:
                return await ask(method, request, context, timeout_s=timeout_s, gone=gone)
            metadata = context.metadata()
            call = self._clients.steps.open(request, metadata, timeout_s, whole=True)
            return parse(await whole_answer(call, gone))
        finally:
            gone.cancel()
