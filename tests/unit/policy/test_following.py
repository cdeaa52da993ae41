"""When a process that follows keys begins its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from penstock.access.v1 import key_service_pb2 as pb

from policy.fed_keys import FedKeys
from policy.following import FollowSettings, following

SNAPSHOT = pb.WatchKeysEvent(snapshot={})


class Feed:
    """One that is away as often as it is told to be."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    async def __call__(self) -> AsyncGenerator[Any, None]:
        self.asked += 1
        if self.asked <= self.failures:
            raise ConnectionError("it is away")
        yield SNAPSHOT
        await asyncio.Event().wait()


def settings(**more: Any) -> FollowSettings:
    return FollowSettings(wait_least_s=0.001, wait_most_s=0.002, **more)


@pytest.mark.parametrize("failures", [0, 1, 5])
async def test_who_insists_begins_once_keys_are_known(failures: int) -> None:
    keys, feed = FedKeys(), Feed(failures)
    async with following(feed, keys, settings(first_s=60.0, insists=True)):
        assert keys.known
    assert feed.asked == failures + 1


async def test_who_does_not_insist_begins_once_the_feed_is_away() -> None:
    keys = FedKeys()
    async with following(Feed(10**9), keys, settings(first_s=60.0)):
        assert not keys.known


async def test_patience_ends() -> None:
    keys = FedKeys()
    async with following(Feed(10**9), keys, settings(first_s=0.05, insists=True)):
        assert not keys.known


async def test_whoever_waits_for_the_end_can_be_cancelled() -> None:
    """And does not take that for the end of what it waits for."""
    keys, ending = FedKeys(), asyncio.Event()

    async def watch() -> AsyncGenerator[Any, None]:
        try:
            yield SNAPSHOT
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.sleep(0.05)

    async def work() -> None:
        async with following(watch, keys, settings()):
            pass

    task = asyncio.create_task(work())
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
