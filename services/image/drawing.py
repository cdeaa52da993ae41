"""Drawing: from a request to the events of its job.

request → model → everything filled in, checked, decoded → a place in line → passes → files
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field

from services.errors import DeadlineExceeded, DomainError, PermissionDenied
from services.image.accounts import accounting, admitted
from services.image.directory import Directory
from services.image.events import Event, Finish
from services.image.jobs import Job
from services.image.options import OptionsFile
from services.image.outbox import MOST_BYTES
from services.image.preparing import Preparer, Target
from services.image.registry import Registry
from services.image.requests import Caller, ImageRequest, Priority
from services.metering import Meter, Unmetered

_LATE = "The deadline passed before the images were drawn."


@dataclass(frozen=True, slots=True)
class Drawer:
    """Draws with the models of a registry."""

    registry: Registry
    options: OptionsFile
    directory: Directory
    preparer: Preparer
    slow_reader_timeout_s: float = 30.0
    unread_bytes: int = MOST_BYTES
    """Of a job's images, beyond which it waits for its reader."""
    meter: Meter = field(default_factory=Unmetered)

    async def draw(
        self, request: ImageRequest, caller: Caller, *, streams: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Yields what happens to a job, `Queued` first and `Finish` last. Closing the generator
        cancels the job.

        Partial images are for those who are shown events (`streams`).

        Raises a `DomainError` when the request is refused or can't be answered in time.
        """
        if request.priority is Priority.HIGH and not caller.is_admin:
            raise PermissionDenied(
                "Priority HIGH needs the role 'admin'. Leave it out, or use a key that has it.",
                field="priority",
            )
        options = self.options.current
        served = self.registry.pick(request.model, options)
        target = Target(
            served.id,
            served.loaded.model,
            served.fingerprint,
            served.loaded.budget,
            served.settings,
        )
        with (
            self.directory.taking(request.job_id) as id,
            served.serving() as batcher,
            batcher.place(_bytes(request)) as place,
        ):
            async with _until(caller.deadline):
                order = await self.preparer.prepare(request, options, target, place.hold)
                metered = await admitted(self.meter, caller, served.id, order)
            job = Job(
                id,
                caller.principal,
                served.id,
                order,
                streams=streams,
                slow_reader_timeout_s=self.slow_reader_timeout_s,
                unread_bytes=self.unread_bytes,
            )
            with self.directory.listing(job), _ending(job, caller.deadline):
                try:
                    batcher.add(job)
                except DomainError:
                    metered.withdraw()
                    raise
                with accounting(metered, job, caller.deadline) as settle:
                    yield job.queued()
                    async with contextlib.aclosing(job.events()) as events:
                        async for event in events:
                            if isinstance(event, Finish):
                                settle(event)
                            yield event


@contextlib.contextmanager
def _ending(job: Job, deadline: float | None) -> Generator[None]:
    """Ends a job at its deadline, and when its caller leaves."""
    timer = None
    if deadline is not None:
        loop = asyncio.get_running_loop()
        timer = loop.call_at(deadline, job.fail, DeadlineExceeded(_LATE))
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        job.leave()


@contextlib.asynccontextmanager
async def _until(deadline: float | None) -> AsyncGenerator[None]:
    """Ends what runs within it at a time on the event loop's clock, with `DeadlineExceeded`."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(_LATE) from None


def _bytes(request: ImageRequest) -> int:
    """Bytes of the files that came: as they came, as they were parsed, and as they are read."""
    files = [*request.init_images, *([request.inpainting.mask] if request.inpainting else [])]
    return 3 * sum(map(len, files))
