import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.retrieval.service.rag_platform import Platform, platform
from tests.postgres_server import empty_database


@pytest.fixture
async def rag(tmp_path: Path) -> AsyncIterator[Platform]:
    """RetrievalService with everything that it calls."""
    async with platform(tmp_path) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
async def rag_on_each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Platform]:
    """The same, with documents in a database of each kind."""
    async with contextlib.AsyncExitStack() as stack:
        url = ""
        if request.param == "postgres":
            postgres = request.getfixturevalue("postgres")
            url = await stack.enter_async_context(empty_database(postgres))
        yield await stack.enter_async_context(platform(tmp_path, url))
