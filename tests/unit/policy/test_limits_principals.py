"""Whose limits hold, and what callers are told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.limiting import Limiting, LimitSettings
from policy.limits_memory import MemoryCounters
from policy.limits_port import Kind, LimitReachedError, LimitsUnavailableError, WhenUnavailable
from policy.limits_requests import limits_of
from policy.limits_tokens import TokenLimiter, windows_of
from policy.principals import Limits, Principal, Role
from policy.vouchers import Vouchers


def principal(name: str = "ada", role: Role = Role.USER, **limits: int) -> Principal:
    return Principal(name, name, frozenset({role}), limits=Limits(**limits))


@pytest.mark.parametrize(
    ("own", "default", "holds"),
    [(None, 3, 3), (2, 3, 2), (5, 3, 5), (0, 3, 0), (None, None, None)],
)
def test_own_limits_go_before_the_defaults(
    own: int | None, default: int | None, holds: int | None
) -> None:
    who = Principal("a", "a", frozenset({Role.USER}), limits=Limits(requests_per_minute=own))
    limits = limits_of(who, Limits(requests_per_minute=default))
    assert limits.requests_per_minute == holds


def test_services_have_no_limits_but_their_own() -> None:
    defaults = Limits(requests_per_minute=1, tokens_per_day=1)
    assert limits_of(principal(role=Role.SERVICE), defaults) == Limits()
    assert limits_of(principal(role=Role.SUPERADMIN), defaults).requests_per_minute == 1


async def test_requests_of_each_principal_are_its_own() -> None:
    limiter = Limiting(LimitSettings(Limits(requests_per_minute=2))).requests
    for name in ("ada", "bob"):
        for remaining in (1, 0):
            admission = await limiter.admit(principal(name))
            assert admission.allowance is not None
            assert admission.allowance.remaining == remaining
        with pytest.raises(LimitReachedError) as refused:
            await limiter.admit(principal(name))
        assert refused.value.kind is Kind.REQUESTS
        assert 0 < refused.value.wait_s <= 60
        assert refused.value.allowance is not None
        assert refused.value.allowance.remaining == 0
    assert (await limiter.admit(principal("eve", requests_per_minute=0))).allowance is None


async def test_a_request_that_is_refused_takes_no_place() -> None:
    limiter = Limiting(LimitSettings(Limits(requests_per_minute=3, concurrent_requests=2))).requests
    first, second = await limiter.admit(principal()), await limiter.admit(principal())
    with pytest.raises(LimitReachedError, match="2 requests at once"):
        await limiter.admit(principal())
    first.end()
    first.end()
    third = await limiter.admit(principal())
    second.end()
    with pytest.raises(LimitReachedError, match="3 requests per minute"):
        await limiter.admit(principal())
    third.end()
    unlimited = principal(requests_per_minute=0)
    for _ in range(2):
        await limiter.admit(unlimited)
    with pytest.raises(LimitReachedError, match="2 requests at once"):
        await limiter.admit(unlimited)
    # What doesn't last takes no place.
    await limiter.admit(unlimited, lasting=False)


async def test_tokens_are_reserved_in_every_window_or_in_none() -> None:
    limiter = TokenLimiter(Limits(tokens_per_minute=1000, tokens_per_day=1500), MemoryCounters())
    await limiter.reserve(principal(), 900)
    with pytest.raises(LimitReachedError, match=r"100 are left.* may use 101") as refused:
        await limiter.reserve(principal(), 101)
    assert refused.value.facts == {"limit": "tokens", "allowed": "1000", "requested": "101"}
    reservation = await limiter.reserve(principal(), 100)
    assert reservation.allowance is not None
    assert (reservation.allowance.limit, reservation.allowance.remaining) == (1000, 0)
    reservation.settle(10)
    reservation.settle(99)  # only the first counts
    again = await limiter.reserve(principal(), 90)
    assert again.allowance is not None
    assert again.allowance.remaining == 0


async def test_a_budget_begins_with_what_was_spent() -> None:
    asked: list[tuple[str, float]] = []

    async def spent(who: str, since: float) -> int:
        asked.append((who, since))
        return 70

    now = datetime(2026, 3, 31, 23, 59, tzinfo=UTC).timestamp()
    limiter = TokenLimiter(
        Limits(tokens_per_day=100, tokens_per_month=1000),
        MemoryCounters(lambda: now),
        spent=spent,
        clock=lambda: now,
    )
    with pytest.raises(LimitReachedError, match=r"per day.* 30 are left.*begins in 1 min"):
        await limiter.reserve(principal(), 31)
    await limiter.reserve(principal(), 30)
    begin_of_day = datetime(2026, 3, 31, tzinfo=UTC).timestamp()
    begin_of_month = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert asked == [("ada", begin_of_day), ("ada", begin_of_month)]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_days_and_months_are_those_of_the_calendar(moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC).timestamp()
    day, month = windows_of(Limits(tokens_per_day=1, tokens_per_month=1), now)
    assert day.ends_at is not None
    assert month.ends_at is not None
    assert now < day.ends_at <= month.ends_at
    last = datetime.fromtimestamp(month.ends_at - 1, UTC)
    assert (last.year, last.month) == (moment.year, moment.month)
    assert datetime.fromtimestamp(month.ends_at, UTC).day == 1
    assert day.ends_at - now <= 86400


async def test_a_ledger_that_does_not_answer_closes_budgets_alone() -> None:
    async def spent(_who: str, _since: float) -> int:
        raise RuntimeError("away")

    limiter = TokenLimiter(Limits(tokens_per_day=10), MemoryCounters(), spent=spent)
    with pytest.raises(LimitsUnavailableError, match="tokens can't be checked"):
        await limiter.reserve(principal(), 1)
    await limiter.reserve(principal(tokens_per_day=0, tokens_per_minute=5), 1)
    lenient = TokenLimiter(
        Limits(tokens_per_day=10),
        MemoryCounters(),
        spent=spent,
        when_unavailable=WhenUnavailable.OPEN,
    )
    (await lenient.reserve(principal(), 1)).settle(1)


@pytest.mark.parametrize(
    ("token", "request_id", "who", "holds"),
    [
        ("secret", "req_1", "ada", True),
        ("other", "req_1", "ada", False),
        ("secret", "req_2", "ada", False),
        ("secret", "req_1", "bob", False),
        ("", "req_1", "ada", False),
    ],
)
def test_a_voucher_holds_for_its_request_alone(
    token: str, request_id: str, who: str, holds: bool
) -> None:
    voucher = Vouchers("secret").make("req_1", "ada")
    assert Vouchers(token).holds(voucher, request_id, who) is holds


@given(st.text(max_size=200) | st.none() | st.binary(max_size=20))
def test_what_is_no_voucher_does_not_hold(text: object) -> None:
    assert not Vouchers("secret").holds(text, "req_1", "ada")
    assert Vouchers("").make("req_1", "ada") == ""
    assert not Vouchers("").holds("", "req_1", "ada")


def test_a_voucher_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("policy.vouchers.time.time", lambda: now)
    voucher = Vouchers("secret").make("req_1", "ada")
    now += 299
    assert Vouchers("secret").holds(voucher, "req_1", "ada")
    now += 2
    assert not Vouchers("secret").holds(voucher, "req_1", "ada")
