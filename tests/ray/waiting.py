from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

WAIT_S = 400.0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something holds. Ray and its processes set no events."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.2)
