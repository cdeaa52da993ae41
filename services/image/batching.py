"""Draws the images of all jobs of a model, several at a time where that changes no byte of them.

One pass runs at a time. The next is put together when the engine is free: the job whose turn it is,
then others with the same plan.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from services.errors import QueueFull, Unavailable
from services.image.engine import Drawn, ImageModel, Plan
from services.image.events import State
from services.image.finishing import Finishing, show
from services.image.jobs import Job
from services.image.passes import Pass, Piece, Report
from services.image.places import Place, Places, QueueLimits
from services.image.turns import Turns
from services.serving.throughput import Throughput
from telemetry.tally import Figures


@dataclass(frozen=True, slots=True)
class Status:
    """Counts at one moment."""

    running: int
    """Jobs of which something was drawn, or is."""
    waiting: int
    job_id: str
    """Of the only job in the pass that runs; else empty."""
    completed_24h: int
    figures: Figures
    """What was counted of the batches."""


class Batcher:
    """Puts passes together for one engine. To be used on one event loop."""

    def __init__(
        self,
        model: ImageModel,
        *,
        limits: QueueLimits | None = None,
        budget: Callable[[], int],
        merges: bool = True,
    ) -> None:
        """Begins idle.

        Args:
            model: what draws.
            limits: of the queue.
            budget: bytes that drawings may take now.
            merges: whether images of several jobs are drawn together.
        """
        self._model = model
        self._budget = budget
        self._merges = merges
        self._turns: Turns[Job] = Turns()
        self._places = Places(limits or QueueLimits(), self._full)
        self._jobs: set[Job] = set()
        self._running: Sequence[Piece] = ()
        self._throughput = Throughput()
        self._finishing = Finishing()
        self._stirred = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.most_images = 0
        """Most images of a pass; 0 is what suits the engine."""

    # The queue.

    @contextlib.contextmanager
    def place(self, held_bytes: int) -> Generator[Place]:
        """Holds a place in the queue for a job, from before its pictures are read to its end.

        Raises:
            QueueFull: there is none.
            Unavailable: the model is being unloaded.
        """
        if self._closed:
            raise _unloaded()
        with self._places.take(held_bytes) as place:
            yield place

    def add(self, job: Job) -> None:
        """Puts a job in line. Raises `Unavailable` when the model is being unloaded."""
        if self._closed:
            raise _unloaded()
        job.stirred = partial(self._changed, job)
        self._jobs.add(job)
        self._turns.add(job)
        self._tell_positions(new=job)
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="passes")

    def status(self) -> Status:
        """Counts at this moment. Jobs whose pictures are being read count as waiting."""
        running = sum(job.start_time is not None for job in self._jobs)
        jobs = {piece.job for piece in self._running}
        return Status(
            running=running,
            waiting=max(self._places.taken, len(self._jobs)) - running,
            job_id=next(iter(jobs)).id if len(jobs) == 1 else "",
            completed_24h=self._throughput.jobs_24h(time.monotonic()),
            figures=self._throughput.figures,
        )

    async def close(self) -> None:
        """Fails what waits and runs, and takes nothing new."""
        self._closed = True
        for job in tuple(self._jobs):
            job.fail(_unloaded())
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._finishing.close()

    def _full(self, message: str) -> QueueFull:
        left = sum(job.cost * len(job.order.drawings) for job in self._jobs)
        share = left / max(1, self._places.taken)  # until the next place is free
        return QueueFull(message, retry_after_s=self._throughput.retry_after_s(share))

    def _changed(self, job: Job) -> None:
        if job.ended and job in self._jobs:
            self._jobs.discard(job)
            self._turns.remove(job)
            if job.complete:
                self._throughput.job_done(time.monotonic())
            self._tell_positions()
        elif not job.remaining:
            self._turns.remove(job)
        self._stirred.set()

    def _tell_positions(self, new: Job | None = None) -> None:
        waiting = [job for job in self._turns.order() if job.state is State.QUEUED]
        for position, job in enumerate(waiting):
            if job is new:
                job.queue_position = position  # its first event tells it
            else:
                job.move_up(position)

    # Drawing.

    async def _work(self) -> None:
        while True:
            try:
                pieces = self._take()
            except Exception as error:  # of the engine's: nobody shall wait for ever
                for job in tuple(self._jobs):
                    job.fail(error)
                continue
            if pieces:
                await self._draw(pieces)
            else:
                self._stirred.clear()
                await self._stirred.wait()

    def _take(self) -> list[Piece]:
        """Takes the images of the next pass."""
        first = self._turns.next(lambda job: job.waiting > 0)
        if first is None:
            return []
        plan = first.order.plan

        def joins(job: Job) -> bool:
            together = job is first or (self._merges and job.order.plan == plan)
            return together and job.waiting > 0

        pieces = [Piece(first, first.take())]
        most = self._most(plan)
        while len(pieces) < most and (job := self._turns.next(joins)) is not None:
            pieces.append(Piece(job, job.take()))
        for job in {piece.job for piece in pieces}:
            if not job.remaining:
                self._turns.remove(job)
        self._tell_positions()
        return pieces

    def _most(self, plan: Plan) -> int:
        """Images of this plan that are drawn together."""
        most = self._model.info.max_batch
        if self.most_images:
            most = min(most, self.most_images)
        budget = self._budget()
        while most > 1 and self._model.memory_bytes(plan, most) > budget:
            most -= 1
        return max(1, most)

    async def _draw(self, pieces: Sequence[Piece]) -> None:
        """Draws images that were taken; in halves where that fails: memory may do for fewer, and
        what one of them trips over is not for the others."""
        plan = pieces[0].job.order.plan
        loop = asyncio.get_running_loop()
        seen = Pass(pieces, lambda report: _post(loop, self._took(report)), show)
        drawings = [piece.job.order.drawings[piece.index] for piece in pieces]
        self._running = pieces
        for job in {piece.job for piece in pieces}:
            job.tell()
        began = time.monotonic()
        try:
            drawn = await self._model.draw(plan, drawings, seen.watch)
        except Exception as error:
            left = [piece for piece in pieces if piece.live and not piece.job.ended]
            if len(left) > 1 and not isinstance(error, Unavailable):
                middle = len(left) // 2
                await self._draw(left[:middle])
                await self._draw(left[middle:])
            else:
                for piece in left:
                    piece.job.fail(error)
            return
        finally:
            self._running = ()
        if drawn is not None:
            self._throughput.batch_done(
                sum(piece.job.cost for piece in pieces), time.monotonic() - began, len(pieces)
            )
        await self._complete(pieces, drawn)

    async def _complete(self, pieces: Sequence[Piece], drawn: Drawn | None) -> None:
        live = [row for row, piece in enumerate(pieces) if piece.live and not piece.job.ended]
        if drawn is None:
            for row in live:  # it was not we who gave it up
                pieces[row].job.fail(_unloaded())
            return
        for job in {pieces[row].job for row in live}:
            job.spent(drawn.denoise_s, drawn.decode_s)
        # At most one pass is made into files while the next is drawn: memory stays bounded.
        await self._finishing.idle()
        for row in live:
            self._finish(pieces[row], drawn.pictures[row])

    def _finish(self, piece: Piece, picture: Image.Image, *, whole: bool = True) -> None:
        if piece.job.drawn(piece.index, whole=whole):
            self._finishing.start(piece.job, piece.index, picture)

    def _took(self, report: Report) -> Callable[[], None]:
        def take() -> None:
            stage = report.stage
            share = stage.step / stage.step_count
            for piece in report.moved:
                piece.job.stepped(piece.index, share)
            for piece, preview in report.previews:
                piece.job.looked(preview)
            for piece, picture in report.kept:
                self._finish(piece, picture, whole=False)
            for piece, number, picture in report.partials:
                self._finishing.start_partial(piece.job, piece.index, number, picture)
            for job in {piece.job for piece in report.moved}:
                job.tell()

        return take


def _post(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and who read with it
        loop.call_soon_threadsafe(work)


def _unloaded() -> Unavailable:
    return Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
