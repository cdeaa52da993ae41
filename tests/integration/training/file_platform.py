"""TrainingService on a real socket, and what its tests say to it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as pb
from penstock.training.v1.training_service_pb2_grpc import (
    TrainingServiceStub,
    add_TrainingServiceServicer_to_server,
)

from policy.key_secrets import digest
from policy.token_store import TokenSources
from services.blobs import open_blobs
from services.rpc.authentication import CallAuthenticator, Identities
from services.rpc.channels import channel
from services.rpc.server import Registration, Server, ServerSettings
from services.rpc.transport import channel_options
from services.training.batch_keeper import BatchKeeper
from services.training.batch_wiring import batch_parts
from services.training.batches import BatchLimits
from services.training.clients import CatalogueClient
from services.training.file_servicer import Patience
from services.training.files import FileLimits, Files
from services.training.jobs import JobLimits, Jobs
from services.training.servicer import TrainingServicer
from services.training.stores import Store, open_store
from services.training.watching import Watches, WatchLimits
from tests.ready_databases import ready_file

ME = (("authorization", "Bearer my-token"),)
YOU = (("authorization", "Bearer your-token"),)
ADMIN = (("authorization", "Bearer admin-token"),)
TRAINER = (("authorization", "Bearer trainer-token"),)
OTHER_TRAINER = (("authorization", "Bearer other-trainer-token"),)
SERVICE_TOKEN = "service-token"
_NOBODY = "127.0.0.1:1"
"""Where no ModelService listens."""
FINE_TUNE = file_pb2.FILE_PURPOSE_FINE_TUNE


@dataclass(frozen=True)
class Platform:
    """A running service."""

    stub: TrainingServiceStub
    server: Server
    files: Files
    folder: Path
    store: Store
    nudges: list[None]
    """One for each time the supervisor was told that there is something to do."""
    keeper: BatchKeeper
    """Of batches. It does nothing unless it is told to."""
    channel: grpc.aio.Channel

    def on_disk(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    async def put(self, content: bytes = b"x", who: Any = ME, **header: Any) -> file_pb2.File:
        return await self.stub.UploadFile(upload([content], **header), metadata=who)

    async def seen(self, who: Any = ME, **request: Any) -> list[str]:
        found = await self.stub.ListFiles(pb.ListFilesRequest(**request), metadata=who)
        return [file.name for file in found.files]

    async def read(self, name: str, offset: int = 0, who: Any = ME) -> bytes:
        request = pb.DownloadFileRequest(name=name, offset_bytes=offset)
        return b"".join([part.data async for part in self.stub.DownloadFile(request, metadata=who)])


def header(**facts: Any) -> pb.UploadFileRequest:
    facts = {"filename": "a.jsonl", "purpose": FINE_TUNE} | facts
    return pb.UploadFileRequest(header=pb.FileHeader(**facts))


async def upload(
    chunks: Sequence[bytes], *others: pb.UploadFileRequest, **facts: Any
) -> AsyncIterator[pb.UploadFileRequest]:
    yield header(**facts)
    for chunk in chunks:
        yield pb.UploadFileRequest(chunk=chunk)
    for other in others:
        yield other


def tokens(folder: Path, more: Identities | None = None) -> CallAuthenticator:
    """Who may call."""
    (folder / "admin-key").write_text("admin-token")
    (folder / "admin-key").chmod(0o600)
    trainers = [
        {"id": name, "sha256": digest(f"{name}-token"), "name": name, "roles": ["trainer"]}
        for name in ("trainer", "other-trainer")
    ]
    (folder / "tokens.json").write_text(json.dumps({"tokens": trainers}))
    return CallAuthenticator(
        TokenSources(
            api_tokens=("my-token", "your-token"),
            service_token=SERVICE_TOKEN,
            admin_key_file=folder / "admin-key",
            token_file=folder / "tokens.json",
        ),
        more=more,
    )


async def database_in(folder: Path) -> str:
    """The service's database in a folder, which may have been there before; gives its URL."""
    file = folder / "training.db"
    return f"sqlite:///{file}" if file.exists() else await ready_file(file, open_store)


@contextlib.asynccontextmanager
async def platform(
    folder: Path,
    url: str = "",
    limits: FileLimits | None = None,
    patience: Patience | None = None,
    *,
    catalogue: str = _NOBODY,
    job_limits: JobLimits | None = None,
    watch_limits: WatchLimits | None = None,
    batch_limits: BatchLimits | None = None,
    identities: Identities | None = None,
) -> AsyncIterator[Platform]:
    """Serves files and jobs, kept in a database and a folder. Nobody runs the jobs."""
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(url or await database_in(folder))
        stack.push_async_callback(store.close)
        blobs = open_blobs(folder / "blobs")
        stack.push_async_callback(blobs.close)
        files = Files(store.files, blobs, limits or FileLimits())
        stack.push_async_callback(files.close)
        to_catalogue = channel(catalogue, token=SERVICE_TOKEN)
        stack.push_async_callback(to_catalogue.close)
        bases = CatalogueClient(to_catalogue, folder / "training")
        nudges: list[None] = []
        jobs = Jobs(store.jobs, bases, job_limits or JobLimits(), nudge=lambda: nudges.append(None))
        watches = Watches(store.jobs, watch_limits)
        stack.push_async_callback(watches.close)
        servicer = TrainingServicer(files, jobs, watches, patience or Patience())
        batches = batch_parts(stack, store, blobs, batch_limits or BatchLimits())
        server = Server(
            ServerSettings(grace_s=2),
            [
                Registration(add_TrainingServiceServicer_to_server, servicer),
                *batches.registrations,
            ],
            authenticator=tokens(folder, identities),
        )
        await server.start()
        stack.push_async_callback(server.stop, 0)
        opened = grpc.aio.insecure_channel(server.address, options=channel_options())
        await stack.enter_async_context(opened)
        yield Platform(
            TrainingServiceStub(opened),
            server,
            files,
            folder / "blobs",
            store,
            nudges,
            batches.keeper,
            opened,
        )
