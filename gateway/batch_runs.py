"""Runs a batch that was leased: reads its requests, has them answered and brings the results.

A request is over when the service has noted its result. What this process had in hand when it died
is run again by whoever leases the batch next; what is noted is not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb
from starlette.types import ASGIApp

from gateway.batch_answers import Refuse, refusal, refused, result_of
from gateway.batch_client import BatchClient
from gateway.batch_owners import BatchOwners, OwnerGoneError, OwnerUnknownError
from gateway.batch_results import LeaseOverError, Results, is_lease_over, is_passing
from gateway.errors import INTERNAL, ProblemError, unavailable
from gateway.inside import InsideAnswer, post_inside

Answer = TypeVar("Answer")

_logger = logging.getLogger(__name__)
_LINES_AT_ONCE = 100
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_LONGEST_CALL_PAUSE_S = 5.0
"""Between calls of a service that is away: a lease lasts longer."""
_PATIENCE_S = 3600.0
"""How long a request is tried again that a service can't answer now. One that the owner's limits
turn away is tried for as long as the batch lasts."""
_OWNER_GONE = (
    "owner_key_invalid",
    "The key or sign-in that made this batch is not good any more, so its requests can't run.",
)


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs of batches share."""

    client: BatchClient
    app: ASGIApp
    owners: BatchOwners
    refuse: Refuse
    slots: asyncio.Semaphore
    """One for each request that may run at the same time, of all batches."""
    concurrency: int
    """Most requests of one batch in hand, running or waiting to be tried again."""
    renew_s: float


class BatchRun:
    """One batch while it is leased."""

    def __init__(self, lease: work_pb.Lease, runner: Runner) -> None:
        self._lease = lease
        self._runner = runner
        self._results = Results()
        self._in_hand = asyncio.Semaphore(runner.concurrency)
        self._asking: set[asyncio.Task[Any]] = set()
        self._cancelling = False

    async def run(self) -> None:
        """Runs what has no result yet. Gives the lease back, unless that is over, or something
        failed: then the batch rests until it ends."""
        try:
            await self._work()
        except asyncio.CancelledError:
            await self._release()
            raise
        except ExceptionGroup as errors:
            if errors.subgroup(LeaseOverError) is not None:
                _logger.info("%s is no longer ours", self._lease.batch)
            elif errors.subgroup(OwnerGoneError) is not None:
                _logger.info("%s can't go on: its owner's key is gone", self._lease.batch)
                await self._runner.client.fail(self._lease, *_OWNER_GONE)
            else:
                raise
        else:
            if not self._results.finished:
                await self._release()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._renew()), group.create_task(self._append())]
            async with asyncio.TaskGroup() as lines:
                await self._start_lines(lines)
            for task in beside:
                task.cancel()

    async def _start_lines(self, group: asyncio.TaskGroup) -> None:
        client = self._runner.client
        place: work_pb.LinePlace | None = None
        while not self._cancelling:
            page = await self._patiently(client.read, self._lease, place, _LINES_AT_ONCE)
            for line in page.lines:
                await self._in_hand.acquire()
                if self._cancelling:
                    self._in_hand.release()
                    return
                group.create_task(self._finish(line))
            if not page.HasField("next"):
                return
            place = page.next

    async def _finish(self, line: work_pb.Line) -> None:
        """Has a request answered, and its result noted."""
        asking = asyncio.create_task(self._ask(line))
        self._asking.add(asking)
        try:
            try:
                result = await asking
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._cancelling and task is not None and not task.cancelling():
                    return  # nobody wants it any more
                raise
            finally:
                self._asking.discard(asking)
                asking.cancel()
            await self._results.put(result)
        finally:
            self._in_hand.release()

    async def _ask(self, line: work_pb.Line) -> work_pb.Result:
        runner = self._runner
        headers = {"x-request-id": f"req_{line.id.rpartition('_')[2]}"}
        problem = refused(line)
        if problem is not None:
            return result_of(line, refusal(problem, headers, runner.refuse), runner.refuse)
        loop = asyncio.get_running_loop()
        began, pause, doubted = loop.time(), _FIRST_PAUSE_S, False
        while True:
            async with runner.slots:
                answer = await self._answered(line, headers["x-request-id"])
            if answer.status == 401:
                # The services may learn of a key a moment after the edge does.
                if doubted:
                    raise OwnerGoneError
                doubted = True
            elif not _is_to_be_tried_again(answer, loop.time() - began):
                return result_of(line, answer, runner.refuse)
            wait = max(pause, _wish(answer))
            await asyncio.sleep(wait * random.uniform(1.0, 1.25))
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _answered(self, line: work_pb.Line, request_id: str) -> InsideAnswer:
        runner, lease = self._runner, self._lease
        headers = {"x-request-id": request_id}
        try:
            authorization = runner.owners.authorization(lease.owner, lease.owner_standing)
        except OwnerUnknownError:
            return refusal(unavailable(), headers, runner.refuse)
        try:
            return await post_inside(
                runner.app,
                lease.endpoint,
                line.body,
                authorization=authorization,
                request_id=request_id,
            )
        except Exception:
            _logger.exception("request %s of %s failed", line.id, lease.batch)
            return refusal(INTERNAL, headers, runner.refuse)

    async def _append(self) -> None:
        while True:
            results = await self._results.next()
            standing = await self._patiently(self._runner.client.append, self._lease, results)
            self._results.noted(results, standing)
            self._heed(standing)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._runner.renew_s)
            if not self._results.finished:
                self._heed(await self._patiently(self._runner.client.renew, self._lease))

    def _heed(self, standing: work_pb.LeaseStanding) -> None:
        if standing.cancelling and not self._cancelling:
            self._cancelling = True
            for asking in self._asking:
                asking.cancel()

    async def _patiently(self, call: Callable[..., Awaitable[Answer]], *args: Any) -> Answer:
        """Makes a call until the service answers. Raises `LeaseOverError` where the lease is over,
        and `ProblemError` where another try won't help."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await call(*args)
            except ProblemError as error:
                if is_lease_over(error.problem):
                    raise LeaseOverError from None
                if not is_passing(error.problem):
                    raise
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, _LONGEST_CALL_PAUSE_S)

    async def _release(self) -> None:
        try:
            await self._runner.client.release(self._lease)
        except ProblemError as error:
            _logger.info("the lease of %s ends by itself: %s", self._lease.batch, error)


def _is_to_be_tried_again(answer: InsideAnswer, spent_s: float) -> bool:
    if answer.status not in (429, 503) or answer.headers.get("x-should-retry") == "false":
        return False
    return answer.status == 429 or spent_s < _PATIENCE_S


def _wish(answer: InsideAnswer) -> float:
    """How long an answer asks to be left alone, in seconds."""
    try:
        return min(float(answer.headers.get("retry-after-ms", "0")) / 1000, _LONGEST_PAUSE_S)
    except ValueError:
        return 0.0
