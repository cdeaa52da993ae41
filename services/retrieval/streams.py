"""Reads the stream of an upsert."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

from penstock.retrieval.v1 import retrieval_service_pb2 as pb

from services.errors import DomainError, InvalidArgument
from services.retrieval import convert
from services.retrieval.callers import check_priority, collection_of
from services.retrieval.ingest import Start
from services.retrieval.intake import Incoming
from services.retrieval.peers import Priority
from services.rpc.validation import validate

_DISCARD_S = 5.0
_DISCARD_IDLE_S = 0.25


class Requests:
    """The pieces of a stream, read one ahead by a task of their own.

    When the stream fails, they can be read on and thrown away for a while: gRPC's client for
    asyncio takes a piece that it can't send for the cause, and never tells its caller the real one.
    """

    def __init__(self, received: AsyncIterator[pb.UpsertDocumentsRequest]) -> None:
        self._received = received
        self._queue: asyncio.Queue[pb.UpsertDocumentsRequest | Exception | None] = asyncio.Queue(1)
        self._discards = False
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._task = asyncio.create_task(self._read())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.UpsertDocumentsRequest:
        request = await self._queue.get()
        if isinstance(request, Exception):
            raise request
        if request is None:
            raise StopAsyncIteration
        return request

    async def discard(self) -> None:
        """Throws away what is being sent, until that ends or pauses, or takes long."""
        self._discards = True
        while not self._queue.empty():
            self._queue.get_nowait()
        begun = self._last = self._loop.time()
        while (
            not self._task.done()
            and self._loop.time() - begun < _DISCARD_S
            and self._loop.time() - self._last < _DISCARD_IDLE_S
        ):
            await asyncio.wait({self._task}, timeout=_DISCARD_IDLE_S / 4)

    async def aclose(self) -> None:
        """Reads no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        end: Exception | None = None
        try:
            async for request in self._received:
                self._last = self._loop.time()
                if not self._discards:
                    await self._queue.put(request)
        except Exception as error:
            end = error
        if not self._discards:
            await self._queue.put(end)


async def start_of(requests: AsyncIterator[pb.UpsertDocumentsRequest]) -> Start:
    """Reads the first piece of a stream."""
    async for request in requests:
        if not request.HasField("start"):
            break
        validate(request)
        asked = request.start
        priority = Priority(asked.priority or Priority.LOW.value)
        check_priority(priority, "start.priority")
        ref = collection_of(asked.collection, "start.collection")
        return Start(ref, asked.fail_fast, priority)
    raise InvalidArgument(
        "'start': must come first: it says where the documents go.", field="start"
    )


async def incoming_of(
    requests: AsyncIterator[pb.UpsertDocumentsRequest],
) -> AsyncGenerator[Incoming, None]:
    """Reads the documents of a stream. One that breaks its rules does not end the stream."""
    async for request in requests:
        if request.HasField("start"):
            raise InvalidArgument("'start': comes once, before the documents.", field="start")
        try:
            validate(request)
        except DomainError as error:
            yield Incoming(name=request.document.name, fault=error)
        else:
            yield convert.to_incoming(request.document)
