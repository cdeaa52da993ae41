from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.gateway.velesio.root_platform import Root, root_platform


@pytest.fixture
async def root(tmp_path: Path) -> AsyncIterator[Root]:
    async with root_platform(tmp_path) as opened:
        yield opened
