"""A real ImageService on echo engines, over a socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.image.image_platform import Platform, platform_of


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform_of(tmp_path) as platform:
        yield platform
