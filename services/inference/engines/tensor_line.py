"""The line in which inferences of a tensor engine wait, and the counts of those that ran."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.errors import DeadlineExceeded, QueueFull, Unavailable
from services.inference.tensor_engine import Inferred, Tensor, TensorStatus
from services.serving.throughput import Throughput

MOST_BYTES = 256 * 1024 * 1024
"""Tensors that wait, together."""


@dataclass(eq=False, slots=True)
class TensorJob:
    """An inference that waits or runs. Its future is cancelled when nobody wants it any more."""

    inputs: Sequence[Tensor]
    done: asyncio.Future[Inferred] = field(repr=False)
    counted: bool = True
    """Whether it is one of those that status tells of."""

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(len(tensor.data) for tensor in self.inputs)


class TensorLine:
    """First come, first served. Must be made on the event loop that uses it."""

    def __init__(self, limit: int, most_bytes: int = MOST_BYTES) -> None:
        """Takes how many may wait beside the one that runs."""
        self._limit = limit
        self._most_bytes = most_bytes
        self._waiting: deque[TensorJob] = deque()
        self._bytes = 0
        self._running: TensorJob | None = None
        self._arrived = asyncio.Event()
        self._throughput = Throughput()
        self._seconds = 0.0
        self._count = 0
        self._refusal = ""

    async def answer(
        self, inputs: Sequence[Tensor], deadline: float | None, *, counted: bool = True
    ) -> Inferred:
        """Waits in line, and for the answer. What isn't counted, status tells nothing of.

        Raises:
            QueueFull: too many wait.
            DeadlineExceeded: the deadline passed.
            Unavailable: the line was closed.
        """
        if self._refusal:
            raise Unavailable(self._refusal, retry_after_s=1.0)
        self._drop_unwanted()
        job = TensorJob(inputs, asyncio.get_running_loop().create_future(), counted)
        # The one that runs has left the line; one that finds nobody before it needs no place.
        ahead = len(self._waiting) + (self._running is not None)
        full = ahead > self._limit or (ahead and self._bytes + job.size > self._most_bytes)
        if full:
            raise QueueFull(
                "Too many inferences wait for this model. Try again later.",
                retry_after_s=self._throughput.retry_after_s(ahead),
            )
        self._waiting.append(job)
        self._bytes += job.size
        self._arrived.set()
        try:
            async with asyncio.timeout_at(deadline):
                return await job.done
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed before the inference was done. Give it more time."
            ) from None

    async def next(self) -> TensorJob:
        """Takes the first in line; it runs from now on."""
        while True:
            self._drop_unwanted()
            if self._waiting:
                self._running = self._waiting.popleft()
                self._bytes -= self._running.size
                return self._running
            self._arrived.clear()
            await self._arrived.wait()

    def finish(self, job: TensorJob, result: Inferred | Exception) -> None:
        """Gives the one that runs its answer."""
        self._running = None
        if isinstance(result, Inferred) and job.counted:
            self._throughput.batch_done(1, result.latency_s)
            self._throughput.job_done(time.monotonic())
            self._seconds += result.latency_s
            self._count += 1
        if job.done.done():
            return
        if isinstance(result, Inferred):
            job.done.set_result(result)
        else:
            job.done.set_exception(result)

    def close(self, why: str) -> None:
        """Fails all that wait or run, and those that come."""
        self._refusal = why
        jobs = [*self._waiting, *([self._running] if self._running else [])]
        self._waiting.clear()
        self._bytes = 0
        self._running = None
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(Unavailable(why, retry_after_s=1.0))

    def status(self) -> TensorStatus:
        """Counts at this moment."""
        self._drop_unwanted()
        return TensorStatus(
            running=int(self._running is not None),
            waiting=len(self._waiting),
            completed_24h=self._throughput.jobs_24h(time.monotonic()),
            mean_latency_s=self._seconds / self._count if self._count else None,
        )

    def _drop_unwanted(self) -> None:
        wanted = deque(job for job in self._waiting if not job.done.done())
        if len(wanted) != len(self._waiting):
            self._waiting = wanted
            self._bytes = sum(job.size for job in wanted)
