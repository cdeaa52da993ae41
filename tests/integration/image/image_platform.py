"""A running ImageService, and how tests look at it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.image.v1 import image_service_pb2 as pb
from penstock.image.v1.image_service_pb2_grpc import (
    ImageServiceStub,
    add_ImageServiceServicer_to_server,
)

from policy.token_store import TokenSources
from services.image.directory import Directory
from services.image.drawing import Drawer
from services.image.engine import ImageModelLoader
from services.image.engines.echo_engine import EchoLoader, EchoSettings
from services.image.limits import Limits
from services.image.loading import Serving, loading
from services.image.options import OptionsFile
from services.image.outbox import MOST_BYTES
from services.image.places import QueueLimits
from services.image.preparing import Preparer
from services.image.registry import Registry, ServedModel
from services.image.servicer import ImageServicer
from services.image.sources import Threads
from services.rpc.authentication import CallAuthenticator
from services.rpc.metering import Metering
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.catalogue import LoadKey, WantedModel
from services.serving.models import Known, ModelKind
from services.usage.journal import Journal
from tests.unit.image.gated_model import GatedLoader, GatedModel

VERSION = "Penstock 0"
SIDE = 64
SMALL = EchoSettings(width=SIDE, height=SIDE)
LIMITS = Limits(
    max_pixels=256 * 256, max_steps=50, max_batch_size=8, max_images=12, max_input_pixels=512 * 512
)
USERS = tuple(f"user-{number}-token" for number in range(8))


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


USER, OTHER = metadata(USERS[0]), metadata(USERS[1])
ADMIN = metadata("admin-token")


@dataclass
class Platform:
    """A running service and what tests look at."""

    image: Any
    registry: Registry
    server: Server
    channel: grpc.aio.Channel
    journal: Journal
    gated: Mapping[str, GatedModel] = field(default_factory=dict[str, GatedModel])


async def served(
    id: str, loader: ImageModelLoader, serving: Serving | None = None, source: Path = Path()
) -> ServedModel:
    """Loads a model as the service does."""
    key = LoadKey("uid", f"models/{id}/revisions/1", str(source))
    load = loading(serving or Serving(version=VERSION))
    return await load(loader, WantedModel(id, ModelKind.IMAGE, key), source, lambda _: None)


@contextlib.asynccontextmanager
async def platform_of(
    folder: Path, *more: ServedModel, unread_bytes: int = MOST_BYTES
) -> AsyncIterator[Platform]:
    """Serves `echo`; `gated`, which draws one image at a time, three jobs at most; `batched`, which
    draws eight, and others where they are given, which stay their owner's to close. Knows others
    that it doesn't serve."""
    registry = Registry()
    gate = GatedLoader(EchoSettings(width=SIDE, height=SIDE, max_batch=1))
    gates = GatedLoader(SMALL)
    few = Serving(QueueLimits(jobs=3), version=VERSION)
    models = [
        await served("echo", EchoLoader(SMALL)),
        await served("gated", gate, few),
        await served("batched", gates),
        *more,
    ]
    for model in models:
        registry.put(model)
    known = [Known(model.id, ModelKind.IMAGE) for model in models if model.id != "echo"]
    registry.know(
        [
            *known,
            Known("echo", ModelKind.IMAGE, ("default-image", "org/alias")),
            Known("loading", ModelKind.IMAGE),
            Known("broken", ModelKind.IMAGE, failed=True),
            Known("talker", ModelKind.CHAT),
        ]
    )
    key_file = folder / "admin-key"
    key_file.write_text("admin-token")
    key_file.chmod(0o600)
    with contextlib.closing(Threads()) as threads:
        options = OptionsFile(folder / "image-options.json")
        preparer = Preparer(threads, LIMITS, VERSION)
        journal = Journal(folder / "usage", "image", most_bytes=0)
        meter = Metering(journal)
        drawer = Drawer(
            registry, options, Directory(), preparer, unread_bytes=unread_bytes, meter=meter
        )
        server = Server(
            ServerSettings(),
            [Registration(add_ImageServiceServicer_to_server, ImageServicer(drawer, threads))],
            authenticator=CallAuthenticator(
                TokenSources(api_tokens=USERS, admin_key_file=key_file)
            ),
        )
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            gated = {"gated": gate.made[0], "batched": gates.made[0]}
            stub = ImageServiceStub(channel)
            yield Platform(stub, registry, server, channel, journal, gated)
        for model in gated.values():
            model.open()
        await server.stop(0)
        for model in models:
            await model.loaded.batcher.close()
            if model not in more:
                await model.loaded.close()


def request(prompt: str = "a", **more: Any) -> image_pb2.ImageRequest:
    """A small, quick request."""
    return image_pb2.ImageRequest(prompt=prompt, **{"model": "echo", "steps": 4, "seed": 7} | more)


async def files(call: Any) -> list[bytes]:
    """The files of an answer."""
    return [image.data for image in (await call).images]


async def events_of(call: Any) -> list[tuple[str, Any]]:
    """The events of a stream, by kind."""
    found: list[tuple[str, Any]] = []
    async for event in call:
        kind = event.WhichOneof("event")
        found.append((kind, getattr(event, kind)))
    return found


async def state(platform: Platform, id: str, who: Any = ADMIN) -> progress_pb2.Progress:
    return await platform.image.GetProgress(pb.GetProgressRequest(job_id=id), metadata=who)


async def reaches(platform: Platform, id: str, wanted: int, step: int = 0) -> None:
    """Waits until a job is in a state, and so many steps are done."""
    async with asyncio.timeout(60):
        while True:
            progress = await state(platform, id)
            if progress.state == wanted and progress.step >= step:
                return
            await asyncio.sleep(0.001)


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Reason and field of an error."""
    info = details(error, error_details_pb2.ErrorInfo())
    return info.reason, info.metadata.get("param", "")


def details(error: grpc.aio.AioRpcError, wanted: Any) -> Any:
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert any(detail.Unpack(wanted) for detail in status.details)
    return wanted
