"""Makes files of pictures in threads, while the engine draws on."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from PIL import Image

from services.image.events import Preview
from services.image.jobs import Job
from services.image.pictures.writing import OutputFile, OutputFormat, write_picture

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 2
_PREVIEW = OutputFile(OutputFormat.JPEG, 90)


def show(picture: Image.Image, step: int) -> Preview:
    """Makes a preview of a cheap picture."""
    data, mime_type = write_picture(picture, _PREVIEW, "")
    return Preview(data, mime_type, step)


class Finishing:
    """The files that are being made for one model. To be used on one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "image-files")
        self._tasks: set[asyncio.Task[None]] = set()
        self._partials: dict[tuple[Job, int], asyncio.Task[None]] = {}

    def start(self, job: Job, index: int, picture: Image.Image) -> None:
        """Makes the file of a finished picture, and gives it to the job."""
        self._spawn(self._image(job, index, picture))

    def start_partial(self, job: Job, index: int, number: int, picture: Image.Image) -> None:
        """Makes the file of a picture that is part of the way, and gives it to the job."""
        before = self._partials.get((job, index))
        task = self._spawn(self._partial(job, index, number, picture, before))
        self._partials[job, index] = task

    async def idle(self) -> None:
        """Waits until all are made."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Ends when no thread works any more."""
        await self.idle()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _image(self, job: Job, index: int, picture: Image.Image) -> None:
        partial = self._partials.get((job, index))
        if partial is not None:  # what is part of the way comes first
            await asyncio.wait([partial])
        if job.ended:
            return
        began = time.perf_counter()
        try:
            image = await self._run(job.order.finisher.image, index, picture)
        except Exception as error:
            job.fail(error)
            return
        job.spent(0.0, time.perf_counter() - began)
        job.finished(image)

    async def _partial(
        self,
        job: Job,
        index: int,
        number: int,
        picture: Image.Image,
        before: asyncio.Task[None] | None,
    ) -> None:
        try:
            if not job.ended:
                image = await self._run(job.order.finisher.partial, index, number, picture)
                if before is not None:
                    await asyncio.wait([before])
                job.partial(image)
        except Exception as error:
            job.fail(error)
        finally:
            if self._partials.get((job, index)) is asyncio.current_task():
                del self._partials[job, index]

    async def _run(self, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **more))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
