"""A database of each kind, and TrainingService over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.training.file_platform import Platform, platform
from tests.postgres_server import empty_database


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'training.db'}"
        return
    async with empty_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Platform]:
    """TrainingService with files in SQLite and a folder."""
    async with platform(tmp_path) as running:
        yield running
