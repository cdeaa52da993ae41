"""Follows the feed of keys: hears which keys there are, for as long as a process runs.

The words are messages like `penstock.access.v1.WatchKeysEvent`, whoever brings them.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from policy.cancelling import heed_cancellation
from policy.fed_keys import FedKeys
from policy.principals import Limits, Principal, Role
from policy.scram import Verifier, parse_verifier
from policy.tokens import Token

_log = logging.getLogger(__name__)
_PREFIX = "keys/"
_ROLES = {
    1: Role.USER,
    2: Role.MODEL_MANAGER,
    3: Role.TRAINER,
    4: Role.ADMIN,
    5: Role.SUPERADMIN,
}
"""By their numbers on the wire. A role that is not known here gives nothing."""


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """How a feed is followed."""

    silence_s: float = 45.0
    """Silence after which it is taken for dead: it says something every 15 s."""
    wait_least_s: float = 0.1
    """Wait before it is asked again; it doubles with each failure."""
    wait_most_s: float = 2.0
    """Longest such wait."""
    first_s: float = 2.0
    """How long the first word is waited for."""
    insists: bool = False
    """Whether it is waited for also after a failure, which shows that the feed is away."""


@asynccontextmanager
async def following(
    watch: Callable[[], AsyncGenerator[Any, None]],
    keys: FedKeys,
    settings: FollowSettings | None = None,
) -> AsyncGenerator[None, None]:
    """Keeps keys as the feed tells them while the block runs. While it is away, they stay.

    The block begins once the feed has told something, or turned out to be away, unless the settings
    insist on a word; at the latest when the time for the first is over.

    `watch` opens the feed anew; it raises, or ends, when the feed is lost.
    """
    settings = settings or FollowSettings()
    tried = asyncio.Event()
    task = asyncio.create_task(_follow(watch, keys, settings, tried), name="key-feed")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.first_s):
                await tried.wait()
        yield
    finally:
        task.cancel()
        # Not suppressed: that would also swallow the cancellation of who waits here.
        await asyncio.gather(task, return_exceptions=True)


async def _follow(
    watch: Callable[[], AsyncGenerator[Any, None]],
    keys: FedKeys,
    settings: FollowSettings,
    tried: asyncio.Event,
) -> None:
    wait_s = settings.wait_least_s
    lost = False
    while True:
        try:
            async with aclosing(watch()) as events:
                while True:
                    async with asyncio.timeout(settings.silence_s):
                        event = await anext(events, None)
                    if event is None:
                        break
                    hear(event, keys)
                    tried.set()
                    wait_s = settings.wait_least_s
                    if lost:
                        _log.info("Keys can be read again.")
                    lost = False
        except Exception as error:
            if not lost:
                what = "stay as they are" if keys.known else "are not known yet"
                _log.warning("Keys can't be read, and %s: %s", what, str(error) or repr(error))
            lost = True
        heed_cancellation()
        if not settings.insists:
            tried.set()
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, settings.wait_most_s)


def hear(event: Any, keys: FedKeys) -> None:
    """Takes one word of the feed."""
    match event.WhichOneof("event"):
        case "snapshot":
            keys.replace(token_of(key) for key in event.snapshot.keys)
        case "changed":
            keys.put(token_of(event.changed))
        case "deleted":
            keys.drop(event.deleted.removeprefix(_PREFIX))
        case _:
            pass


def token_of(key: Any) -> Token:
    """Reads a key from a message like `penstock.access.v1.Key`."""
    principal = Principal(
        key.name.removeprefix(_PREFIX),
        key.display_name,
        frozenset(_ROLES[number] for number in key.roles if number in _ROLES),
        tenants=tuple(key.tenants),
        expires_at=key.expire_time.ToDatetime(UTC).timestamp()
        if key.HasField("expire_time")
        else None,
        gel_user=key.gel_user,
        limits=limits_of(key.limits),
        allowed_models=tuple(key.allowed_models),
    )
    return Token(key.sha256, principal, verifier=_verifier(key.scram_verifier))


def limits_of(limits: Any) -> Limits:
    """Reads limits from a message like `penstock.access.v1.Limits`."""
    return Limits(
        **{
            name: getattr(limits, name) if limits.HasField(name) else None
            for name in Limits.__slots__
        }
    )


def _verifier(text: str) -> Verifier | None:
    try:
        return parse_verifier(text) if text else None
    except ValueError:
        _log.error("a key has a verifier that can't be read; its user can't sign in by SCRAM")
        return None
