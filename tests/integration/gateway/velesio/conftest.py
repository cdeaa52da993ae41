from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.gateway.velesio.root_platform import Root, root_platform


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root(module_loop: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Root]:
    async with root_platform(tmp_path_factory.mktemp("root")) as opened:
        yield opened


@pytest.fixture
async def own_root(tmp_path: Path) -> AsyncIterator[Root]:
    """One that the test may break."""
    async with root_platform(tmp_path) as opened:
        yield opened
