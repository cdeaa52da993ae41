"""A database of each kind, and TrainingService over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.training.stores import open_store
from tests.integration.training.file_platform import Platform, platform
from tests.postgres_server import empty_database
from tests.ready_databases import ready_database, ready_file


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of each kind that holds nothing, with its schema."""
    if request.param == "sqlite":
        yield await ready_file(tmp_path / "training.db", open_store)
        return
    async with ready_database(request.getfixturevalue("postgres"), open_store) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def new_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of each kind without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    async with empty_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Platform]:
    """TrainingService with files in SQLite and a folder."""
    async with platform(tmp_path) as running:
        yield running
