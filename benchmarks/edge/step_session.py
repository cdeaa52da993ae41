"""The stand-in engine's end of the step stream: one message per step for all requests."""
# ruff: noqa: N802 - methods bear the names of their RPCs

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import cycle

from penstock.inference.internal.v1 import step_service_pb2 as step_pb2
from penstock.inference.internal.v1 import step_service_pb2_grpc

from benchmarks.edge import events
from benchmarks.edge.pacing import WORDS, Ledger, Pace, Pacer, Task, task_of


class StepServicer(step_service_pb2_grpc.StepServiceServicer):
    """Serves step streams."""

    def __init__(self, pacer: Pacer, ledger: Ledger) -> None:
        self._pacer = pacer
        self._ledger = ledger

    async def StepStream(
        self, request_iterator: AsyncIterator[step_pb2.StepStreamRequest], context: object
    ) -> AsyncIterator[step_pb2.StepStreamResponse]:
        session = _Session(self._ledger)
        reader = asyncio.create_task(session.read(request_iterator))
        self._pacer.listen(session.tick)
        try:
            async for response in session.responses():
                yield response
        finally:
            self._pacer.leave(session.tick)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            session.close()


class _Stream:
    """One request."""

    __slots__ = ("credit", "left", "task")

    def __init__(self, task: Task, credit: int) -> None:
        self.task = task
        self.credit = credit
        self.left = task.token_count


class _Session:
    """The requests of one edge worker."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._paces: dict[Pace, dict[int, _Stream]] = {pace: {} for pace in Pace}
        self._streams: dict[int, _Stream] = {}
        self._fresh: list[int] = []
        self._wholes: list[int] = []
        self._due = False
        self._wake = asyncio.Event()
        self._words = cycle(WORDS)

    def tick(self) -> None:
        """A step is due."""
        if self._paces[Pace.PACED]:
            self._due = True
            self._wake.set()

    async def read(self, requests: AsyncIterator[step_pb2.StepStreamRequest]) -> None:
        """Follows what the edge says."""
        async for request in requests:
            if not request.words:
                self._take(request)
            for word in request.words:
                self._take(step_pb2.StepStreamRequest.FromString(word))
            self._wake.set()

    async def responses(self) -> AsyncIterator[step_pb2.StepStreamResponse]:
        """Yields the news of each step."""
        while True:
            response = self._step()
            if response.updates:
                yield response
            else:
                await self._wake.wait()
                self._wake.clear()

    def close(self) -> None:
        """The edge is gone."""
        for stream_id in [*self._streams]:
            self._remove(stream_id, cancelled=True)

    def _take(self, request: step_pb2.StepStreamRequest) -> None:
        stream_id = request.stream_id
        action = request.WhichOneof("action")
        if action == "start":
            self._start(stream_id, request.start)
        elif action == "cancel":
            self._remove(stream_id, cancelled=True)
        elif action == "credit" and stream_id in self._streams:
            self._streams[stream_id].credit += request.credit.update_count

    def _start(self, stream_id: int, start: step_pb2.Start) -> None:
        if start.whole:
            self._wholes.append(stream_id)
            return
        task = task_of(start.chat)
        stream = _Stream(task, start.credit)
        self._streams[stream_id] = self._paces[task.pace][stream_id] = stream
        self._ledger.begin()
        if task.pace is not Pace.SILENT:
            self._fresh.append(stream_id)

    def _remove(self, stream_id: int, *, cancelled: bool) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            del self._paces[stream.task.pace][stream_id]
            self._ledger.end(stream.task, cancelled=cancelled)

    def _step(self) -> step_pb2.StepStreamResponse:
        response = step_pb2.StepStreamResponse()
        wholes, self._wholes = self._wholes, []
        for stream_id in wholes:
            response.updates.add(stream_id=stream_id, answer=events.answer().SerializeToString())
        fresh, self._fresh = self._fresh, []
        for stream_id in fresh:
            if stream_id in self._streams:
                self._streams[stream_id].credit -= 1
                response.updates.add(stream_id=stream_id, chat=events.started())
        if self._due:
            self._due = False
            self._advance(self._paces[Pace.PACED], response)
        if self._paces[Pace.FLOOD]:
            self._advance(self._paces[Pace.FLOOD], response)
        return response

    def _advance(self, streams: dict[int, _Stream], response: step_pb2.StepStreamResponse) -> None:
        add = response.updates.add
        word = next(self._words)
        ended: list[int] = []
        for stream_id, stream in streams.items():
            if stream.credit > 0:
                stream.credit -= 1
                stream.left -= 1
                add(stream_id=stream_id, text=word)
                if not stream.left:
                    ended.append(stream_id)
        for stream_id in ended:
            token_count = streams[stream_id].task.token_count
            add(stream_id=stream_id, chat=events.finished())
            add(stream_id=stream_id, chat=events.done(token_count))
            self._remove(stream_id, cancelled=False)
