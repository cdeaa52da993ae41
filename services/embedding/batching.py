"""Dynamic batching: the inputs of all callers of a model, put together into batches of its engine.

One batch is computed at a time. The next is put together when the engine is free, from all that is
tokenised by then: what came last may be in it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.embedding.engine import Encoder, Tokens
from services.embedding.requests import Caller, Priority, Timings
from services.embedding.turns import Turns, Work
from services.embedding.vectors import normalized
from services.errors import DeadlineExceeded, QueueFull, Unavailable
from services.serving.throughput import Throughput
from telemetry.tally import Figures


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one model's queue."""

    calls: int = 256
    """Calls that wait and run."""
    tokens: int = 1_000_000
    """Tokens that wait. A call that has more comes in when nothing else waits."""
    batch_tokens: int = 0
    """Most tokens of a batch, unless its only input has more. 0: what suits the engine."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a call's inputs are to be computed."""

    caller: Caller = field(default_factory=Caller)
    priority: Priority = Priority.NORMAL
    normalize: bool = True
    """Whether vectors are scaled to length 1."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Counts at one moment."""

    running: int
    """Calls of which something was computed, or is."""
    waiting: int
    request_id: str
    """Of the only call in the batch that runs; else empty."""
    completed_24h: int
    figures: Figures
    """What was counted of the batches."""


@dataclass(slots=True)
class Progress:
    """How far a call came."""

    tokens: int = 0
    """Of inputs that were computed, or were being computed when it ended."""
    queue_s: float = 0.0
    compute_s: float = 0.0


class _Job(Work):
    """A call's inputs, and what has been computed of them."""

    def __init__(self, inputs: Sequence[Tokens], order: Order) -> None:
        super().__init__(inputs, principal=order.caller.principal, priority=order.priority)
        self.normalize = order.normalize
        self.request_id = order.request_id or order.caller.request_id
        self.results: list[Any] = [None] * len(inputs)
        self.left = len(inputs)
        self.begun = False
        self.taken = 0
        """Tokens that went into batches."""
        self.compute_s = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None = None) -> None:
        """Tells whoever waits, unless they left."""
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class Batcher:
    """Puts batches together for one engine. To be used on one event loop."""

    def __init__(self, encoder: Encoder, limits: Limits | None = None) -> None:
        self._encoder = encoder
        self._limits = limits or Limits()
        self._budget = self._limits.batch_tokens or encoder.info.batch_tokens
        self._turns: Turns[_Job] = Turns()
        self._places = 0
        self._jobs: set[_Job] = set()
        self._running: set[_Job] = set()  # in the batch that runs
        self._throughput = Throughput()
        self._stirred = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.most_inputs = 0
        """Most inputs of a batch; 0 is any number."""

    @contextlib.contextmanager
    def place(self) -> Generator[None]:
        """Holds a place in the queue for a call, from before its texts are tokenised to its end.

        Raises:
            QueueFull: there is none.
            Unavailable: the model is being unloaded.
        """
        self._check_open()
        if self._places >= self._limits.calls:
            raise QueueFull(
                f"{self._places} calls wait for this model already: try again later.",
                retry_after_s=self._throughput.retry_after_s(self._turns.tokens / self._places),
            )
        self._check_tokens(1)
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def compute(
        self,
        inputs: Sequence[Tokens],
        order: Order | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Any], Timings]:
        """Returns what the engine makes of the inputs, in their order: vectors as bytes, or the
        scores of pairs. Cancelling the call takes out what isn't computed. `progress` is told how
        far it came, however it ends.

        Raises:
            QueueFull: too many tokens wait.
            Unavailable: the model is being unloaded.
        """
        job = _Job(inputs, order or Order())
        self._check_open()
        self._check_tokens(job.tokens)
        begun = time.monotonic()
        if job.left:
            self._jobs.add(job)
            self._turns.add(job)
            self._wake()
            try:
                await job.ended
            finally:
                self._turns.remove(job)
                self._jobs.discard(job)
                if progress is not None:
                    progress.tokens = job.taken
                    progress.queue_s = _queued(job, begun)
                    progress.compute_s = job.compute_s
        self._throughput.job_done(time.monotonic())
        return job.results, Timings(_queued(job, begun), job.compute_s)

    def status(self) -> Status:
        """Counts at this moment. Who is still being tokenised counts as waiting."""
        running = sum(job.begun for job in self._jobs)
        only = next(iter(self._running)).request_id if len(self._running) == 1 else ""
        done = self._throughput.jobs_24h(time.monotonic())
        waiting = max(self._places, len(self._jobs)) - running
        return Status(running, waiting, only, done, self._throughput.figures)

    async def close(self) -> None:
        """Fails what waits and runs, and takes nothing new."""
        self._closed = True
        for job in self._jobs:
            self._turns.remove(job)
            job.end(_unloaded())
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _check_open(self) -> None:
        if self._closed:
            raise _unloaded()

    def _check_tokens(self, more: int) -> None:
        waiting = self._turns.tokens
        excess = waiting + more - self._limits.tokens
        if waiting and excess > 0:
            raise QueueFull(
                f"{waiting} tokens wait for this model already: try again later, or with less.",
                retry_after_s=self._throughput.retry_after_s(min(excess, waiting)),
            )

    def _wake(self) -> None:
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="batches")

    async def _work(self) -> None:
        while True:
            batch = self._turns.take(self._budget, self.most_inputs)
            if batch:
                # Engines that pad do best with neighbours of one length.
                batch.sort(key=_size, reverse=True)
                await self._compute(batch)
            else:
                self._stirred.clear()
                await self._stirred.wait()

    async def _compute(self, batch: Sequence[tuple[_Job, int]]) -> None:
        jobs = self._running = {job for job, _ in batch}
        for job, position in batch:
            job.begun = True
            job.taken += len(job.inputs[position].ids)
        begun = time.monotonic()
        try:
            results = await self._results(batch)
            took_s = time.monotonic() - begun
            for (job, position), result in zip(batch, results, strict=True):
                job.results[position] = result
                job.left -= 1
        except Exception as error:
            for job in jobs:
                self._turns.remove(job)
                job.end(error)
            return
        finally:
            self._running = set()
        self._throughput.batch_done(sum(map(_size, batch)), took_s, len(batch))
        for job in jobs:
            job.compute_s += took_s
            if not job.left:
                job.end()

    async def _results(self, batch: Sequence[tuple[_Job, int]]) -> Sequence[Any]:
        inputs = [job.inputs[position] for job, position in batch]
        if self._encoder.info.scores_pairs:
            return await self._encoder.score(inputs)
        wishes = [job.normalize for job, _ in batch]
        vectors = await self._encoder.encode(inputs, normalize=all(wishes))
        if any(wishes) and not all(wishes):
            scaled = normalized(vectors)
            return [scaled[at] if wish else vectors[at] for at, wish in enumerate(wishes)]
        return vectors


@contextlib.asynccontextmanager
async def until(deadline: float | None, progress: Progress) -> AsyncGenerator[None]:
    """Ends what runs within it at a time on the event loop's clock, with `DeadlineExceeded`, which
    tells how far it came."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late(progress) from None


def _size(entry: tuple[_Job, int]) -> int:
    job, position = entry
    return len(job.inputs[position].ids)


def _queued(job: _Job, begun: float) -> float:
    return max(0.0, time.monotonic() - begun - job.compute_s)


def _late(progress: Progress) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The deadline passed before the answer was complete: the call waited for "
        f"{progress.queue_s:.3f} s and was computed for {progress.compute_s:.3f} s; "
        f"{progress.tokens} of its tokens had their turn. Allow more time, or send less.",
        metadata={
            "queued_s": f"{progress.queue_s:.3f}",
            "ran_s": f"{progress.compute_s:.3f}",
            "prompt_tokens": str(progress.tokens),
        },
    )


def _unloaded() -> Unavailable:
    return Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
