"""What holds of every place where limits are counted, as a machine that tries to break it."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from policy.limits_port import Counters, Full, Kind, Reserved, Unknown, Window

OWNERS = ("ada", "bob")
MINUTE, DAY, PLACES = 100, 150, 3
BEFORE = 7
"""Tokens that each had used of the day before anybody counted."""


@dataclass
class Request:
    """One that was let in, as the machine remembers it."""

    owner: str
    member: str
    amount: int
    at: float
    open: bool = True


class LimitsMachine(RuleBasedStateMachine):
    """Reserves, settles, takes places and gives them back, and knows what has to come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.leases: dict[str, list[str]] = {owner: [] for owner in OWNERS}
        self.count = 0
        self.counters = self.make()

    def make(self) -> Counters:
        raise NotImplementedError

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        raise NotImplementedError

    def now(self) -> float:
        return 0.0

    def day(self) -> str:
        return "day:1"

    def windows(self) -> tuple[Window, ...]:
        return (
            Window(Kind.TOKENS, "tokens", MINUTE),
            Window(Kind.DAY, self.day(), DAY, ends_at=self.ends_at()),
        )

    def ends_at(self) -> float:
        raise NotImplementedError

    def in_minute(self, owner: str) -> int:
        since = self.now() - 60
        return sum(r.amount for r in self.requests if r.owner == owner and r.at > since)

    def in_day(self, owner: str) -> int:
        return BEFORE + sum(r.amount for r in self.requests if r.owner == owner)

    def name(self) -> str:
        self.count += 1
        return f"m{self.count}"

    @rule(owner=st.sampled_from(OWNERS), amount=st.integers(0, 60))
    def reserve(self, owner: str, amount: int) -> None:
        member = self.name()
        windows = self.windows()
        reply = self.run_(self.counters.reserve(owner, member, amount, windows, {}))
        if isinstance(reply, Unknown):
            assert list(reply.places) == [1]
            known = {self.day(): BEFORE}
            reply = self.run_(self.counters.reserve(owner, member, amount, windows, known))
        minute, day = self.in_minute(owner), self.in_day(owner)
        if isinstance(reply, Full):
            assert (minute + amount > MINUTE, day + amount > DAY)[reply.place]
            assert reply.level.used == (minute, day)[reply.place]
            assert reply.wait_s >= 0
            return
        assert isinstance(reply, Reserved)
        assert minute + amount <= MINUTE
        assert day + amount <= DAY
        assert [level.used for level in reply.levels] == [minute + amount, day + amount]
        self.requests.append(Request(owner, member, amount, self.now()))

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        running = [request for request in self.requests if request.open]
        assume(running)
        request = data.draw(st.sampled_from(running))
        used = data.draw(st.integers(0, request.amount))
        self.counters.settle(request.owner, request.member, used, self.windows())
        request.amount, request.open = used, False

    @rule(owner=st.sampled_from(OWNERS))
    def lease(self, owner: str) -> None:
        member = self.name()
        granted = self.run_(self.counters.lease(owner, member, PLACES))
        assert granted == (len(self.leases[owner]) < PLACES)
        if granted:
            self.leases[owner].append(member)

    @rule(owner=st.sampled_from(OWNERS), twice=st.booleans())
    def end_lease(self, owner: str, twice: bool) -> None:
        assume(self.leases[owner])
        member = self.leases[owner].pop()
        for _ in range(1 + twice):
            self.counters.end_lease(owner, member)

    @invariant()
    def limits_hold(self) -> None:
        for owner in OWNERS:
            assert self.in_minute(owner) <= MINUTE
            assert self.in_day(owner) <= DAY

    def teardown(self) -> None:
        """When all have ended, what is left is exactly what was used."""
        for request in self.requests:
            if request.open:
                self.counters.settle(request.owner, request.member, 0, self.windows())
                request.amount = 0
        for owner in OWNERS:
            known = {self.day(): BEFORE}
            args = (owner, self.name(), 0, self.windows(), known)
            reply = self.run_(self.counters.reserve(*args))
            assert isinstance(reply, Reserved)
            used = [level.used for level in reply.levels]
            assert used == [self.in_minute(owner), self.in_day(owner)]
            for member in self.leases[owner]:
                self.counters.end_lease(owner, member)
            for _ in range(PLACES):
                assert self.run_(self.counters.lease(owner, self.name(), PLACES))
            assert not self.run_(self.counters.lease(owner, self.name(), PLACES))
