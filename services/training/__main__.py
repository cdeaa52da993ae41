"""Runs TrainingService: `python -m services.training [--port N] [--config FILE] [--data-dir D]`."""

import asyncio
import contextlib

from penstock.training.v1 import training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import add_TrainingServiceServicer_to_server

from services.blobs import Blobs, S3Access, open_blobs
from services.rpc.health import HealthRegistry
from services.rpc.process import run_service, server_settings, token_store
from services.rpc.server import Registration, serve
from services.settings import BlobSettings, Settings, SettingsError, TrainingSettings
from services.training.file_servicer import Patience
from services.training.files import FileLimits, Files
from services.training.records import Purpose
from services.training.servicer import TrainingServicer
from services.training.stores import open_store
from services.training.sweeping import keep_swept

_SERVICE = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    own = settings.services.training
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await open_store(own.database_url)
        except ValueError as error:
            raise SettingsError(f"[services.training] database_url: {error}") from error
        stack.push_async_callback(store.close)
        blobs = _blobs(settings.blobs)
        stack.push_async_callback(blobs.close)
        files = Files(store, blobs, _limits(own))
        stack.push_async_callback(files.close)
        health = HealthRegistry()
        sweeping = asyncio.create_task(
            keep_swept(files, own.sweep_interval_s, tell=lambda well: health.set(_SERVICE, well))
        )
        try:
            patience = Patience(own.upload_timeout_s, own.slow_reader_timeout_s)
            await serve(
                "training",
                server_settings(settings, "training"),
                [
                    Registration(
                        add_TrainingServiceServicer_to_server, TrainingServicer(files, patience)
                    )
                ],
                authenticator=token_store(settings),
                health=health,
            )
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


def _blobs(settings: BlobSettings) -> Blobs:
    access = S3Access(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
    )
    try:
        return open_blobs(settings.folder, settings.url, access)
    except ValueError as error:
        raise SettingsError(f"[blobs] {error}") from error


def _limits(settings: TrainingSettings) -> FileLimits:
    return FileLimits(
        max_file_bytes=settings.max_file_bytes,
        max_owner_bytes=settings.max_owner_bytes,
        purposes=frozenset(Purpose(purpose) for purpose in settings.file_purposes),
        types=settings.file_types,
        max_uploads=settings.max_uploads,
    )


if __name__ == "__main__":
    run_service("training", main)
