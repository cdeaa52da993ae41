"""Results on their way to the service: many in one message, each waited for."""

import asyncio
from collections import deque
from collections.abc import Sequence

from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb

from gateway.errors import Problem

_MOST_BYTES = 8 * 1024 * 1024
"""Of a message, unless a single result is larger."""
_MOST_RESULTS = 500
_PASSING = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "QUEUE_FULL", "STORAGE_FULL", "CONFLICT"}
)


class LeaseOverError(Exception):
    """Somebody else has the batch, or it has ended."""


def is_lease_over(problem: Problem) -> bool:
    """Tells whether a call failed because its lease is over."""
    return problem.reason in ("FAILED_PRECONDITION", "NOT_FOUND")


def is_passing(problem: Problem) -> bool:
    """Tells whether a call may succeed later."""
    return problem.reason in _PASSING


class Results:
    """Results of one batch."""

    def __init__(self) -> None:
        self.finished = False
        """Whether every request has its result: then the lease is over."""
        self._queue: deque[work_pb.Result] = deque()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._there = asyncio.Event()

    async def put(self, result: work_pb.Result) -> None:
        """Hands a result over, and waits until it is noted."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[result.number] = waiting
        self._queue.append(result)
        self._there.set()
        await waiting

    async def next(self) -> Sequence[work_pb.Result]:
        """Returns what there is, for one message; waits for the first."""
        await self._there.wait()
        found = [self._queue.popleft()]
        size = len(found[0].line)
        while self._queue and len(found) < _MOST_RESULTS:
            size += len(self._queue[0].line)
            if size > _MOST_BYTES:
                break
            found.append(self._queue.popleft())
        if not self._queue:
            self._there.clear()
        return found

    def noted(self, results: Sequence[work_pb.Result], standing: work_pb.LeaseStanding) -> None:
        """Says that results are noted."""
        self.finished = self.finished or standing.finished
        for result in results:
            waiting = self._waiting.pop(result.number)
            if not waiting.done():
                waiting.set_result(None)
