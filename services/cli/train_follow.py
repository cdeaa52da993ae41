"""Follows a job through its events, and comes back when the connection breaks."""

import asyncio
from typing import Protocol

import grpc
from grpc import aio
from penstock.training.v1 import job_pb2, training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.cli.failures import Failure, explain, rich_status
from services.cli.session import Session
from services.cli.train_words import job_name

PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, *(8.0,) * 12)
"""Pauses between attempts in a row that bring nothing. After the last, following is given up."""

_BROKEN = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED})
"""What proxies and dying processes leave; from a service, these come with a reason."""


class View(Protocol):
    """Shows what is followed."""

    def event(self, event: training_service_pb2.WatchJobEvent) -> None:
        """Takes an event of the stream."""
        ...

    def lost(self) -> None:
        """The connection broke; it will be tried again."""
        ...

    def close(self) -> None:
        """Takes away what only showed the progress; more than once is fine."""
        ...


class Following:
    """Follows one job."""

    def __init__(self, session: Session, job: str, view: View, *, is_known: bool) -> None:
        """Takes whom to ask. `is_known` says that the service has told of the job already."""
        self._session = session
        self._name = job_name(job)
        self._view = view
        self._is_known = is_known
        self._last = ""
        """Name of the last event that was seen."""
        self._heard = False
        """Whether this attempt brought more than the job as it is."""

    async def run(self) -> job_pb2.Job:
        """Follows the job from its beginning until it has ended. Raises Failure."""
        broken = 0
        while True:
            self._heard = False
            try:
                ended = await self._attempt()
                failure = Failure("The events of the job end before it does.")
            except aio.AioRpcError as error:
                failure = self._explained(error)
                if not (self._is_known and _passes(error)):
                    raise failure from error
                ended = None
            if ended is not None:
                return ended
            broken = 0 if self._heard else broken
            if broken == len(PAUSES_S):
                failure.hint = f"{self.way_back}\n{failure.hint}".strip()
                raise failure
            self._view.lost()
            await asyncio.sleep(PAUSES_S[broken])
            broken += 1

    @property
    def way_back(self) -> str:
        """Says that the job goes on, and how it is followed again."""
        return f"The job goes on:\n`penstock train watch {self._id}` follows it again."

    @property
    def _id(self) -> str:
        return self._name.removeprefix(job_name(""))

    async def _attempt(self) -> job_pb2.Job | None:
        """Reads a stream to its end; returns the job when it has ended."""
        request = training_service_pb2.WatchJobRequest(
            name=self._name, resume_after=self._last, from_start=not self._last
        )
        async with self._session.channel(self._session.training) as channel:
            call = TrainingServiceStub(channel).WatchJob(request)
            try:
                async for event in call:
                    self._is_known = True
                    self._heard = self._heard or not event.HasField("job")
                    if event.HasField("happened"):
                        self._last = event.happened.name
                    self._view.event(event)
                    if event.HasField("finish"):
                        return event.finish.job
            finally:
                call.cancel()
        return None

    def _explained(self, error: aio.AioRpcError) -> Failure:
        failure = explain(error, self._session.training, self._session.target.key_hint)
        if not failure.hint and error.code() is grpc.StatusCode.NOT_FOUND:
            failure.hint = "`penstock train list` shows what there is."
        return failure


def _passes(error: aio.AioRpcError) -> bool:
    """Tells whether it may be better in a moment."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    return error.code() in _BROKEN and rich_status(error) is None
