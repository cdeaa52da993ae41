"""Runs generations for every dialect, over the step stream.

Only whole answers to large requests take an RPC of their own, whose flow control keeps them from
holding up what others ask.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import priority_pb2
from starlette.types import Receive, Send

from gateway.bodies import disconnected
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext
from gateway.settings import Settings
from gateway.sse import HEADERS, PING
from gateway.steps import TextRequest
from gateway.streams import Closing, Renderer, stream
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
        *,
        pings: bool = True,
        headers: Iterable[tuple[bytes, bytes]] = HEADERS,
        ping: bytes = PING,
        closing: Closing | None = None,
    ) -> None:
        """Answers with a stream, which `pings` keep alive while there is nothing to say.

        `headers` tell its type, and `ping` is what a ping looks like in it. `closing`
        makes its last frames.

        Raises:
            ProblemError: it failed before anything was sent.
            ClientGoneError: the client left.
        """
        settings = self._settings
        if context.background:
            request.priority = priority_pb2.PRIORITY_LOW
        call = self._clients.steps.open(
            request,
            context.metadata(),
            context.within(settings.request_timeout_s),
            note=context.note_tokens,
        )
        await stream(
            call,
            renderer,
            receive,
            send,
            ping_interval_s=settings.ping_interval_s if pings else None,
            slow_reader_s=settings.slow_reader_s,
            headers=headers,
            ping=ping,
            closing=closing,
        )

    async def _whole(
        self,
        method: Method[Request, Answer],
        parse: Callable[[bytes], Answer],
        request: Request,
        context: RequestContext,
        receive: Receive,
    ) -> Answer:
        if context.background:
            request.priority = priority_pb2.PRIORITY_LOW
        timeout_s = self._settings.request_timeout_s
        gone = asyncio.get_running_loop().create_task(disconnected(receive))
        try:
            if request.ByteSize() > _MOST_SHARED_BYTES:
                return await ask(method, request, context, timeout_s=timeout_s, gone=gone)
            metadata = context.metadata()
            call = self._clients.steps.open(
                request, metadata, context.within(timeout_s), whole=True, note=context.note_tokens
            )
            return parse(await whole_answer(call, gone))
        finally:
            gone.cancel()
