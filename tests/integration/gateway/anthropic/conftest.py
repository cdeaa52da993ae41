from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.gateway.echo_platform import EchoPlatform, echo_platform


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    module_loop: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EchoPlatform]:
    async with echo_platform(tmp_path_factory.mktemp("echo")) as platform:
        yield platform
