"""ImageService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from penstock.image.v1 import image_pb2, progress_pb2, sampler_pb2
from penstock.image.v1 import image_service_pb2 as pb
from penstock.image.v1.image_service_pb2_grpc import ImageServiceServicer
from penstock.inference.v1 import queue_pb2 as queue_pb

from services.errors import DomainError
from services.image import convert, listing
from services.image.callers import caller_of
from services.image.collecting import collect
from services.image.convert_requests import to_request
from services.image.defaults import Options, check_vae
from services.image.drawing import Drawer
from services.image.pictures.infotext import parse_infotext
from services.image.registry import ServedModel
from services.image.requests import Caller
from services.image.sources import Threads, read_info
from services.metering import Work
from services.rpc.access import Role, principal, requires
from services.rpc.metering import work_of
from services.serving.queues import Counts, queue_status

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


class ImageServicer(ImageServiceServicer):
    """Draws with the models of a registry."""

    def __init__(self, drawer: Drawer, threads: Threads) -> None:
        self._drawer = drawer
        self._registry = drawer.registry
        self._directory = drawer.directory
        self._options = drawer.options
        self._threads = threads

    @requires(Role.USER)
    async def Generate(self, request: image_pb2.ImageRequest, context: Context) -> pb.ImageResponse:
        """Draws images."""
        asked = to_request(request)
        caller = _caller(context, await work_of(request, user=request.user))
        events = self._drawer.draw(asked, caller, streams=False)
        return convert.from_answer(*await collect(events))

    @requires(Role.USER)
    async def StreamGenerate(
        self, request: image_pb2.ImageRequest, context: Context
    ) -> AsyncGenerator[progress_pb2.ImageEvent, None]:
        """Draws images and shows how it goes."""
        asked = to_request(request)
        caller = _caller(context, await work_of(request, user=request.user))
        async with aclosing(self._drawer.draw(asked, caller)) as events:
            async for event in events:
                yield convert.from_event(event)

    @requires(Role.USER)
    async def Interrupt(
        self, request: pb.InterruptRequest, context: Context
    ) -> pb.InterruptResponse:
        """Ends jobs at their next step."""
        jobs = self._directory.named(request.job_id, _caller(context))
        return pb.InterruptResponse(job_ids=[job.id for job in jobs if job.interrupt()])

    @requires(Role.USER)
    async def Skip(self, request: pb.SkipRequest, context: Context) -> pb.SkipResponse:
        """Ends batches at their next step."""
        jobs = self._directory.named(request.job_id, _caller(context))
        return pb.SkipResponse(job_ids=[job.id for job in jobs if job.skip()])

    @requires(Role.USER)
    async def GetProgress(
        self, request: pb.GetProgressRequest, context: Context
    ) -> progress_pb2.Progress:
        """Tells how far a job is."""
        progress = self._directory.progress(request.job_id, _caller(context))
        return convert.from_progress(progress, preview=not request.skip_preview)

    @requires(Role.USER)
    async def ListSamplers(
        self, request: pb.ListSamplersRequest, context: Context
    ) -> pb.ListSamplersResponse:
        """Lists samplers."""
        found = listing.samplers(self._registry, request.model)
        shown, token = listing.page(
            found, lambda one: one.name, request.page_size, request.page_token
        )
        return pb.ListSamplersResponse(
            samplers=map(convert.from_sampler, shown), next_page_token=token
        )

    @requires(Role.USER)
    async def ListSchedulers(
        self, request: pb.ListSchedulersRequest, context: Context
    ) -> pb.ListSchedulersResponse:
        """Lists sigma schedules."""
        found = listing.schedulers(self._registry, request.model)
        shown, token = listing.page(
            found, lambda one: one.name, request.page_size, request.page_token
        )
        return pb.ListSchedulersResponse(
            schedulers=map(convert.from_scheduler, shown), next_page_token=token
        )

    @requires(Role.USER)
    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: Context
    ) -> pb.ListCheckpointsResponse:
        """Lists image models."""
        found = list(self._registry.checkpoints().values())
        shown, token = listing.page(
            found, lambda one: one.model, request.page_size, request.page_token
        )
        return pb.ListCheckpointsResponse(
            checkpoints=map(convert.from_checkpoint, shown), next_page_token=token
        )

    @requires(Role.USER)
    async def GetOptions(
        self, request: pb.GetOptionsRequest, context: Context
    ) -> sampler_pb2.Options:
        """Tells what requests take when they don't say."""
        return self._told(self._options.current)

    @requires(Role.USER)
    async def SetOptions(
        self, request: pb.SetOptionsRequest, context: Context
    ) -> sampler_pb2.Options:
        """Changes what requests take when they don't say."""

        def change(options: Options) -> Options:
            new = convert.changed(options, request)
            if new.model and new.model != options.model:
                new = replace(new, model=self._registry.id_of(new.model))
            check_vae(new.vae or "", "options.vae")
            return new

        return self._told(await self._options.change(change))

    @requires(Role.USER)
    async def ReadInfo(self, request: pb.ReadInfoRequest, context: Context) -> pb.ReadInfoResponse:
        """Reads what an image was drawn with from its file."""
        limits = self._drawer.preparer.limits
        items = await self._threads.run(lambda: read_info(request.image, limits))
        infotext = items.get("parameters", "")
        return pb.ReadInfoResponse(
            infotext=infotext,
            items=items,
            parameters=parse_infotext(infotext) if infotext else {},
        )

    @requires(Role.USER)
    async def GetQueueStatus(
        self, request: pb.GetQueueStatusRequest, context: Context
    ) -> queue_pb.QueueStatus:
        """Tells what waits and what runs."""
        return queue_status(self._registry, "sd", counts)

    def _told(self, options: Options) -> sampler_pb2.Options:
        """Options with the model that they come to."""
        if not options.model:
            with suppress(DomainError):  # none serves
                options = replace(options, model=self._registry.pick("", options).id)
        return convert.from_options(options)


def _caller(context: Context, work: Work | None = None) -> Caller:
    remaining: float | None = context.time_remaining()
    return caller_of(principal(), remaining, work=work)


def counts(served: ServedModel) -> Counts:
    """Returns the counts of a model at this moment."""
    status = served.loaded.batcher.status()
    return Counts(
        *(status.running, status.waiting, status.completed_24h, status.job_id),
        figures=status.figures,
    )
