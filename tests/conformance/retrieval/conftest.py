"""Every way of keeping documents takes part: one suite, the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from pytest_asyncio import is_async_test

from services.retrieval.indexes.postgres_index import PostgresIndex
from services.retrieval.store import Store
from services.retrieval.stores import open_store
from services.retrieval.stores.database import Database, create_engine
from services.retrieval.stores.sql import SqlStore
from tests.postgres_server import empty_database

KINDS = ["sqlite", "sqlite-uncached", "postgres", "postgres-hnsw"]


@dataclass(frozen=True)
class Settings:
    index_cache_bytes: int = 1 << 24


@dataclass
class Clock:
    """A clock that stands still until it is put forward."""

    now: datetime = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Kind:
    """A way of keeping documents, and where."""

    name: str
    url: str

    async def open(self, clock: Clock) -> Store:
        if self.name == "sqlite-uncached":
            return await open_store(self.url, Settings(index_cache_bytes=0), clock=clock)
        store = await open_store(self.url, Settings(), clock=clock)
        if self.name == "postgres-hnsw":
            await store.close()
            # Every search that may goes by the approximate index.
            index = PostgresIndex(fewest_indexed=1)
            return SqlStore(Database(create_engine(self.url)), index, clock)
        return store


@contextlib.asynccontextmanager
async def _opened(kind: Kind, clock: Clock) -> AsyncIterator[Store]:
    store = await kind.open(clock)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="session")
def postgres_url(postgres: str) -> Iterator[str]:
    """A database that tests share; each has a tenant of its own."""
    with asyncio.Runner() as runner:
        database = empty_database(postgres)
        yield runner.run(database.__aenter__())
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('retrieval')}/retrieval.db"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stores live in the loop of their module, and its tests with them."""
    for item in items:  # all there are, of other folders too
        if is_async_test(item) and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    name = "postgres_url" if request.param.startswith("postgres") else "sqlite_url"
    return Kind(request.param, request.getfixturevalue(name))


@pytest.fixture(scope="module")
def module_clock() -> Clock:
    return Clock()


@pytest.fixture
def clock(module_clock: Clock) -> Clock:
    """The clock of all stores, which was not put forward yet."""
    module_clock.now = Clock.now
    return module_clock


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_store(kind: Kind, module_clock: Clock) -> AsyncIterator[Store]:
    async with _opened(kind, module_clock) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_other(kind: Kind, module_clock: Clock) -> AsyncIterator[Store]:
    async with _opened(kind, module_clock) as opened:
        yield opened


@pytest.fixture
def store(module_store: Store, clock: Clock) -> Store:
    """Tests of a module share it: each has a tenant of its own."""
    return module_store


@pytest.fixture
def other(module_other: Store, clock: Clock) -> Store:
    """The same database, as another process sees it."""
    return module_other


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def new_file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/retrieval.db"
