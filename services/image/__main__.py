"""Runs ImageService: `python -m services.image [--port N] [--config F] [--data-dir D]`."""

import contextlib
from importlib.metadata import version

from penstock.image.v1.image_service_pb2_grpc import add_ImageServiceServicer_to_server

from services.errors import FailedPrecondition
from services.image.clients import describe
from services.image.directory import Directory
from services.image.drawing import Drawer
from services.image.engine import ImageModelLoader
from services.image.engines.echo_engine import EchoLoader
from services.image.limits import Limits
from services.image.loading import Serving, loading
from services.image.options import OptionsFile
from services.image.places import QueueLimits
from services.image.preparing import Preparer
from services.image.registry import Registry
from services.image.servicer import ImageServicer, counts
from services.image.sources import Threads
from services.rpc.metered_process import Metered, metered
from services.rpc.process import run_service
from services.rpc.server import Registration
from services.serving.loading import ECHO, TRITON, Loading
from services.serving.process import serve_models
from services.settings import ImageSettings, Settings


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    async with metered(settings, "image") as metering:
        await _serve(settings, metering)


async def _serve(settings: Settings, metering: Metered) -> None:
    own = settings.services.image
    software = f"Penstock {version('penstock')}"
    registry = Registry()
    limits = Limits(
        max_pixels=own.max_pixels,
        max_steps=own.max_steps,
        max_batch_size=own.max_batch_size,
        max_images=own.max_images,
        max_input_pixels=own.max_input_pixels,
    )
    serving = Serving(
        QueueLimits(own.queue_limit, own.queue_bytes),
        own.memory_bytes,
        merges=own.batching != "off",
        version=software,
    )
    async with contextlib.AsyncExitStack() as stack:
        engines = {
            "echo": EchoLoader,
            "diffusers": lambda: _diffusers(own),
            "triton": lambda: _triton(settings, stack),
        }
        threads = stack.enter_context(contextlib.closing(Threads()))
        drawer = Drawer(
            registry,
            OptionsFile(settings.services.data_dir / "image-options.json"),
            Directory(),
            Preparer(threads, limits, software),
            own.slow_reader_timeout_s,
            meter=metering.meter,
        )
        servicer = ImageServicer(drawer, threads)
        await serve_models(
            "image",
            settings,
            [Registration(add_ImageServiceServicer_to_server, servicer)],
            registry=registry,
            loader=Loading(engines, own.engine, loading(serving), folderless=(ECHO, TRITON)),
            describe=describe,
            count=counts,
            journal=metering.journal,
            limits=metering.limits,
        )


def _diffusers(settings: ImageSettings) -> ImageModelLoader:
    # torch and diffusers take seconds to import: only processes that use them do.
    try:
        from services.image.engines.diffusers_loader import DiffusersLoader
        from services.image.engines.diffusers_settings import DiffusersSettings
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "The diffusers engine is not installed: install the extra `image`, or take the engine "
            "echo ([services.image] engine)."
        ) from error
    return DiffusersLoader(
        DiffusersSettings(
            device=settings.device,
            dtype=settings.dtype,
            compile=settings.compile,
            batching=settings.batching,
        )
    )


def _triton(settings: Settings, stack: contextlib.AsyncExitStack) -> ImageModelLoader:
    try:
        from services.image.engines.triton_loader import TritonLoader
        from services.tritonserver.endpoints import Triton
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "The triton engine is not installed: install the extra `triton`, or take another "
            "engine ([services.image] engine)."
        ) from error
    triton = Triton(settings.triton)
    stack.push_async_callback(triton.close)
    return TritonLoader(triton)


if __name__ == "__main__":
    run_service("image", main)
