"""Runs ModelService: `python -m services.model [--port N] [--config FILE] [--data-dir DIR]`."""

import asyncio
import contextlib
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from penstock.access.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from penstock.access.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from penstock.model.v1 import model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

from services.errors import InvalidArgument
from services.model.catalog import Catalog
from services.model.key_feed import KeyFeed
from services.model.key_servicer import KeyServicer
from services.model.keys import Keys
from services.model.records import ModelKind
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.keys import SqlKeys
from services.model.stores.sql import SqlStore
from services.model.stores.usage import SqlUsage
from services.model.usage import UsageLedger
from services.model.usage_servicer import UsageServicer
from services.model.watches import ChangeFeed, Watches, keep
from services.rpc.health import HealthRegistry
from services.rpc.process import (
    authenticator_of,
    default_limits,
    limited,
    run_service,
    server_settings,
)
from services.rpc.server import Registration, serve
from services.settings import Settings, SettingsError

_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    try:
        store = await SqlStore.open(settings.services.model.database_url)
    except ValueError as error:
        raise SettingsError(f"[services.model] database_url: {error}") from error
    async with contextlib.aclosing(store):
        key_store = SqlKeys(store)
        key_feed = KeyFeed(key_store)
        await key_feed.refresh()
        keys = Keys(key_store, announce=key_feed.announced)
        feed = ChangeFeed()
        catalog = Catalog(store, announce=feed.announce)
        reports = Reports(catalog)
        try:
            await plant(catalog, _seeds(settings))
        except InvalidArgument as error:
            raise SettingsError(f"[api.models] {error.message}") from error
        health = HealthRegistry()
        servicer = ModelServicer(
            catalog,
            reports,
            Watches(catalog, feed),
            SourcePolicy(
                [Path(root) for root in settings.services.model.model_roots],
                training=settings.training.folder,
            ),
            version=_version(),
        )
        days = settings.usage.retention_days
        ledger = UsageLedger(SqlUsage(store), retention=timedelta(days) if days else None)
        following = asyncio.create_task(key_feed.run(), name="key-feed")
        retaining = asyncio.create_task(ledger.keep())
        keeping = asyncio.create_task(
            keep(catalog, reports, feed, tell=lambda well: health.set(_SERVICE, well))
        )
        try:
            async with limited(settings) as limits:
                await serve(
                    "model",
                    server_settings(settings, "model"),
                    [
                        Registration(add_ModelServiceServicer_to_server, servicer),
                        Registration(add_UsageServiceServicer_to_server, UsageServicer(ledger)),
                        Registration(
                            add_KeyServiceServicer_to_server,
                            KeyServicer(keys, key_feed, defaults=default_limits(settings)),
                        ),
                    ],
                    authenticator=authenticator_of(settings, key_feed.book),
                    health=health,
                    limits=limits.calls,
                )
        finally:
            for task in (keeping, retaining, following):
                task.cancel()
            await asyncio.gather(keeping, retaining, following, return_exceptions=True)


def _seeds(settings: Settings) -> list[Seed]:
    """Reads the models of the configuration file."""
    return [
        Seed(
            id=model_id,
            source=str(model.path.expanduser().absolute()),
            kind=ModelKind(model.type),
            context_length=model.context_length or 0,
            dimensions=model.dimensions or 0,
            default_temperature=model.default_temperature,
            aliases=model.aliases,
            default_steps=model.default_steps,
            default_cfg_scale=model.default_cfg_scale,
        )
        for model_id, model in settings.api.models.items()
    ]


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    run_service("model", main)
