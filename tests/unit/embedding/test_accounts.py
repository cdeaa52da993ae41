"""The account of a call for vectors: its tokens are reserved, and what was computed is told."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from policy.limits_memory import MemoryCounters
from policy.limits_tokens import TokenLimiter
from policy.principals import Limits, Principal, Role
from services.embedding.accounts import Counted, accounted
from services.embedding.batching import Batcher, Progress
from services.embedding.batching import Limits as QueueLimits
from services.embedding.engine import Tokens
from services.embedding.engines.echo_engine import EchoSettings
from services.embedding.requests import Caller
from services.errors import QueueFull, RateLimited
from services.metering import Metered, Outcome, TokenAllowance, Used, Work
from services.rpc.limits import WorkLimits, WorkReservation
from tests.unit.embedding.gated_encoder import GatedEncoder, settle

ADA = Principal("ada", "ada", frozenset({Role.USER}), limits=Limits(tokens_per_minute=100))
CALLER = Caller("ada", work=Work(ADA, "req_1", "Embed", ""))


class Account:
    """A meter that limits for real, and keeps what it is told."""

    def __init__(self) -> None:
        self.limits = WorkLimits(TokenLimiter(Limits(), MemoryCounters()))
        self.told: list[tuple[Work, Used | None]] = []

    async def admit(self, work: Work) -> Metered:
        return Entry(self, work, await self.limits.admit(work))

    async def left(self) -> int:
        reservation = await self.limits.admit(Work(ADA, "", "", ""))
        assert reservation.allowance is not None
        return reservation.allowance.remaining


class Entry:
    def __init__(self, account: Account, work: Work, reservation: WorkReservation) -> None:
        self.account = account
        self.work = work
        self.reservation = reservation

    @property
    def allowance(self) -> TokenAllowance | None:
        return self.reservation.allowance

    def settle(self, used: Used) -> None:
        self.account.told.append((self.work, used))
        self.reservation.settle(used.prompt_tokens + used.completion_tokens)

    def withdraw(self) -> None:
        self.account.told.append((self.work, None))
        self.reservation.settle(0)


def inputs(*sizes: int) -> list[Tokens]:
    return [Tokens([7] * size) for size in sizes]


async def embed(account: Account, batcher: Batcher, *sizes: int) -> None:
    progress = Progress()
    counted = Counted("words", "eve", sum(sizes))
    async with accounted(account, CALLER, counted, progress):
        await batcher.compute(inputs(*sizes), progress=progress)


async def test_tokens_are_those_of_the_inputs() -> None:
    account, encoder = Account(), GatedEncoder(EchoSettings(dimensions=8, batch_tokens=50))
    batcher = Batcher(encoder)
    running = asyncio.create_task(embed(account, batcher, 30, 20))
    await settle()
    assert await account.left() == 50, "reserved while it runs"
    with pytest.raises(RateLimited):
        await embed(account, batcher, 51)
    encoder.release()
    await running
    work, used = account.told[0]
    assert (work.model, work.user, work.prompt_tokens) == ("words", "eve", 50)
    assert used is not None
    assert (used.outcome, used.prompt_tokens) == (Outcome.OK, 50)
    assert len(account.told) == 1


async def test_who_leaves_uses_what_was_computed() -> None:
    account, encoder = Account(), GatedEncoder(EchoSettings(dimensions=8, batch_tokens=40))
    batcher = Batcher(encoder)
    running = asyncio.create_task(embed(account, batcher, 40, 30, 20))
    await settle()  # the first batch, of 40, is being computed
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    _, used = account.told[0]
    assert used is not None
    assert (used.outcome, used.prompt_tokens) == (Outcome.CANCELLED, 40)
    assert await account.left() == 60
    encoder.release()
    await settle()


async def test_who_is_turned_away_used_nothing() -> None:
    account, encoder = Account(), GatedEncoder(EchoSettings(dimensions=8, batch_tokens=10))
    batcher = Batcher(encoder, QueueLimits(tokens=20))
    first = asyncio.create_task(embed(account, batcher, 10, 10, 10))
    await settle()
    with pytest.raises(QueueFull):
        await embed(account, batcher, 20)
    assert account.told == [(account.told[0][0], None)]
    assert await account.left() == 70
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    encoder.release()
    await settle()
