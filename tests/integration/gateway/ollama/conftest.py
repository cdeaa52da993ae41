from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.gateway.echo_platform import EchoPlatform, echo_platform


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[EchoPlatform]:
    async with echo_platform(tmp_path) as platform:
        yield platform
