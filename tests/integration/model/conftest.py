"""Databases, and ModelService on real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from penstock.model.v1.model_service_pb2_grpc import (
    ModelServiceStub,
    add_ModelServiceServicer_to_server,
)

from policy.key_secrets import digest
from policy.token_store import TokenSources
from services.model.catalog import Catalog, utc_now
from services.model.reports import Reports
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, Watches, keep
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from tests.postgres_server import empty_database
from tests.ready_databases import ready_database, ready_file

ROLES = ("user", "model_manager", "trainer", "admin")


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request, tmp_path) -> AsyncIterator[str]:
    """A database of each kind that holds nothing, with its schema."""
    if request.param == "sqlite":
        yield await ready_file(tmp_path / "model.db", SqlStore.open)
        return
    async with ready_database(request.getfixturevalue("postgres"), SqlStore.open) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def new_database_url(request, tmp_path) -> AsyncIterator[str]:
    """A database of each kind without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    async with empty_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
async def store(database_url) -> AsyncIterator[SqlStore]:
    async with contextlib.aclosing(await SqlStore.open(database_url)) as store:
        yield store


@dataclass
class Clock:
    """A clock that can be put forward."""

    ahead: timedelta = timedelta()

    def __call__(self):
        return utc_now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def weights(tmp_path) -> str:
    """A folder for weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    return str(folder)


@dataclass
class Service:
    """A running ModelService, and stubs of every role."""

    server: Server
    catalog: Catalog
    stub: Callable[[str], ModelServiceStub]


@pytest.fixture
def start_service(tmp_path, clock):
    """Starts ModelService on a database, with tokens that are called like their roles."""
    tokens = [{"id": role, "sha256": digest(role), "name": role, "roles": [role]} for role in ROLES]
    tokens.append({"id": "m2", "sha256": digest("m2"), "name": "m2", "roles": ["model_manager"]})
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))

    @contextlib.asynccontextmanager
    async def start(
        url: str,
        *,
        heartbeat_s: float = 15.0,
        max_lag: int = 1000,
        roots: tuple[Path, ...] = (),
        training: Path | None = None,
    ) -> AsyncIterator[Service]:
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(contextlib.aclosing(await SqlStore.open(url)))
            feed = ChangeFeed()
            catalog = Catalog(store, clock=clock, announce=feed.announce)
            reports = Reports(catalog)
            servicer = ModelServicer(
                catalog,
                reports,
                Watches(catalog, feed, heartbeat_s=heartbeat_s, max_lag=max_lag),
                SourcePolicy(roots, training=training),
                version="1.2.3",
                heartbeat_s=heartbeat_s,
            )
            sources = TokenSources(service_token="service", token_file=tmp_path / "tokens.json")
            server = Server(
                ServerSettings(grace_s=1.0),
                [Registration(add_ModelServiceServicer_to_server, servicer)],
                authenticator=CallAuthenticator(sources),
            )
            keeping = asyncio.create_task(keep(catalog, reports, feed))
            stack.push_async_callback(_ended, keeping)
            await stack.enter_async_context(server)

            def stub(token: str) -> ModelServiceStub:
                channel = grpc.aio.insecure_channel(
                    server.address, interceptors=[_Token(token), _StreamToken(token)]
                )
                stack.push_async_callback(channel.close)
                return ModelServiceStub(channel)

            yield Service(server, catalog, stub)

    return start


@pytest.fixture
async def service(start_service, database_url) -> AsyncIterator[Service]:
    async with start_service(database_url) as service:
        yield service


async def _ended(task: asyncio.Task) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _with(token: str, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if token:
        metadata.add("authorization", f"Bearer {token}")
    return details._replace(metadata=metadata)


class _Token(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(_with(self._token, details), request)


class _StreamToken(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(_with(self._token, details), request)
