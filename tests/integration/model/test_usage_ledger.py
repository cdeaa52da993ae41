"""The usage ledger: over gRPC, on both databases."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.access.v1 import usage_pb2 as pb
from penstock.access.v1 import usage_service_pb2 as service_pb
from penstock.access.v1.usage_service_pb2_grpc import (
    UsageServiceStub,
    add_UsageServiceServicer_to_server,
)

from policy.key_secrets import digest
from policy.principals import Principal, Role
from policy.token_store import TokenSources
from services.errors import InvalidArgument
from services.metering import Outcome, Used, Work
from services.model import usage_records as kept_records
from services.model.stores.sql import SqlStore
from services.model.stores.usage import SqlUsage
from services.model.usage import UsageLedger
from services.model.usage_records import Filter, Usage
from services.model.usage_servicer import UsageServicer
from services.rpc.authentication import CallAuthenticator
from services.rpc.channels import channel
from services.rpc.server import Registration, Server, ServerSettings
from services.rpc.usage import OUTCOMES, Ledger
from services.usage.records import Begun
from tests.integration.reasons import reason

ALICE = Principal("alice", "alice", frozenset({Role.USER}))
START = datetime(2026, 1, 30, 12, tzinfo=UTC)
LEAST = Usage("", "", "", "", "", "", kept_records.Outcome.OK, START)
Group = service_pb.SumUsageRequest
Stub = Callable[[str], Any]


@pytest.fixture
async def ledger(store: SqlStore) -> UsageLedger:
    return UsageLedger(SqlUsage(store), retention=timedelta(days=30), clock=lambda: START)


@pytest.fixture
async def usage(ledger: UsageLedger, tmp_path: Path) -> AsyncIterator[Stub]:
    """Stubs of callers, by their tokens."""
    tokens = [
        {"id": name, "sha256": digest(name), "name": name, "roles": [role]}
        for name, role in (("alice", "user"), ("bob", "trainer"), ("admin", "admin"))
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"tokens": tokens}))
    async with contextlib.AsyncExitStack() as stack:
        sources = TokenSources(service_token="service", token_file=file)
        server = Server(
            ServerSettings(grace_s=1.0),
            [Registration(add_UsageServiceServicer_to_server, UsageServicer(ledger))],
            authenticator=CallAuthenticator(sources),
        )
        await stack.enter_async_context(server)

        def stub(token: str) -> Any:
            opened = channel(server.address, token=token)
            stack.push_async_callback(opened.close)
            return UsageServiceStub(opened)

        stub.address = server.address  # type: ignore[attr-defined]
        yield stub


def record(number: int = 1, **more: Any) -> pb.UsageRecord:
    """The record of a request that began so many hours after `START`."""
    made = pb.UsageRecord(
        **{
            "id": f"{number:040x}",
            "principal": "alice",
            "request_id": f"req-{number}",
            "model": "echo",
            "method": "penstock.inference.v1.InferenceService/Chat",
            "dialect": "openai",
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "cached_tokens": 1,
            "outcome": pb.OUTCOME_OK,
            "user": "Ünï 漢字 🙂",
        }
        | more
    )
    made.queued.FromMilliseconds(7)
    made.ran.FromMicroseconds(1_500_001)
    made.start_time.FromDatetime(START + timedelta(hours=number))
    return made


async def kept(usage: Stub, *records: pb.UsageRecord) -> None:
    await usage("service").RecordUsage(service_pb.RecordUsageRequest(records=records))


async def listed(usage: Stub, token: str = "admin", **wanted: Any) -> list[pb.UsageRecord]:
    request = service_pb.ListUsageRequest(filter=service_pb.UsageFilter(**wanted))
    return list((await usage(token).ListUsage(request)).records)


async def summed(
    usage: Stub, *groups: Any, token: str = "admin", **wanted: Any
) -> list[pb.UsageTotal]:
    request = service_pb.SumUsageRequest(
        filter=service_pb.UsageFilter(**wanted), group_by=list(groups)
    )
    return list((await usage(token).SumUsage(request)).totals)


async def test_what_is_told_twice_is_kept_once(usage: Stub) -> None:
    first, second = record(1), record(2)
    await kept(usage, first, second, first)
    changed = record(1, completion_tokens=999)
    await kept(usage, changed, record(3))
    assert await listed(usage) == [record(3), second, first]


async def test_pages_hold_all_of_it_in_order(usage: Stub) -> None:
    made = [record(number) for number in range(7)]
    for one in made[2:5]:  # begun at the same moment: by ID
        one.start_time.CopyFrom(made[3].start_time)
    await kept(usage, *random.Random(1).sample(made, 7))
    wanted = sorted(made, key=lambda one: (one.start_time.seconds, one.id), reverse=True)
    for size in (1, 2, 3, 7, 8):
        found: list[pb.UsageRecord] = []
        request = service_pb.ListUsageRequest(page_size=size)
        while True:
            page = await usage("admin").ListUsage(request)
            assert len(page.records) <= size
            found += page.records
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
            await kept(usage, record(1000 + len(found)))  # later ones move nothing
        assert [one for one in found if one in made] == wanted
        assert len(found) == len({one.id for one in found})


async def test_users_see_their_own_and_admins_all(usage: Stub) -> None:
    await kept(usage, record(1), record(2, principal="bob"), record(3, principal="service"))
    assert [one.principal for one in await listed(usage, "alice")] == ["alice"]
    assert [one.principal for one in await listed(usage, "alice", principal="alice")] == ["alice"]
    assert {one.principal for one in await listed(usage)} == {"alice", "bob", "service"}
    assert [one.principal for one in await listed(usage, principal="bob")] == ["bob"]
    assert [one.requests for one in await summed(usage, token="alice")] == [1]
    assert [one.requests for one in await summed(usage)] == [3]
    for call in (listed(usage, "alice", principal="bob"), listed(usage, "alice", principal="x")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason(caught.value) == ("PERMISSION_DENIED", "filter.principal")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await summed(usage, token="alice", principal="bob")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    for token in ("alice", "admin"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await usage(token).RecordUsage(service_pb.RecordUsageRequest(records=[record()]))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"model": "echo"}, {1, 4}),
        ({"model": "large", "dialect": "gel"}, {2}),
        ({"dialect": "grpc"}, {3}),
        ({"request_id": "req-4"}, {4}),
        ({"start_time": START + timedelta(hours=2)}, {2, 3, 4}),
        ({"end_time": START + timedelta(hours=2)}, {1}),
        ({"start_time": START + timedelta(hours=2, microseconds=1)}, {3, 4}),
        ({"end_time": START + timedelta(hours=2, microseconds=1)}, {1, 2}),
        ({"model": "none"}, set()),
    ],
)
async def test_filters(usage: Stub, wanted: dict[str, Any], numbers: set[int]) -> None:
    await kept(
        usage,
        record(1),
        record(2, model="large", dialect="gel"),
        record(3, model="large", dialect="grpc"),
        record(4),
    )
    found = await listed(usage, **wanted)
    assert {int(one.id, 16) for one in found} == numbers
    (total,) = await summed(usage, **wanted)
    assert total.requests == len(numbers)


async def test_sums_are_exact_by_every_group(usage: Stub) -> None:
    chance = random.Random(7)
    made = [
        record(
            number,
            principal=chance.choice(["alice", "bob", "Bob"]),
            model=chance.choice(["echo", "large"]),
            dialect=chance.choice(["openai", "gel"]),
            prompt_tokens=chance.randrange(10**9),
            completion_tokens=chance.randrange(10**6),
            cached_tokens=chance.randrange(100),
            images=chance.randrange(4),
        )
        for number in range(300)  # over twelve days, and into another month
    ]
    for start in range(0, 300, 50):
        await kept(usage, *made[start : start + 60])

    def told(one: pb.UsageRecord, group: int) -> str:
        moment = one.start_time.ToDatetime()
        return {
            Group.GROUP_BY_PRINCIPAL: one.principal,
            Group.GROUP_BY_MODEL: one.model,
            Group.GROUP_BY_DAY: f"{moment:%Y-%m-%d}",
            Group.GROUP_BY_MONTH: f"{moment:%Y-%m}",
            Group.GROUP_BY_DIALECT: one.dialect,
        }[group]

    names = {
        Group.GROUP_BY_PRINCIPAL: "principal",
        Group.GROUP_BY_MODEL: "model",
        Group.GROUP_BY_DAY: "period",
        Group.GROUP_BY_MONTH: "period",
        Group.GROUP_BY_DIALECT: "dialect",
    }
    counts = ("prompt_tokens", "completion_tokens", "cached_tokens", "images")
    for groups in (
        [],
        *([group] for group in names),
        [Group.GROUP_BY_MONTH, Group.GROUP_BY_PRINCIPAL],
        [Group.GROUP_BY_MODEL, Group.GROUP_BY_DAY, Group.GROUP_BY_DIALECT],
        [Group.GROUP_BY_PRINCIPAL, Group.GROUP_BY_MODEL, Group.GROUP_BY_DIALECT],
    ):
        wanted: dict[tuple[str, ...], pb.UsageTotal] = {}
        for one in made:
            key = tuple(told(one, group) for group in groups)
            total = wanted.setdefault(key, pb.UsageTotal())
            for group in groups:
                setattr(total, names[group], told(one, group))
            total.requests += 1
            for name in counts:
                setattr(total, name, getattr(total, name) + getattr(one, name))
        assert await summed(usage, *groups) == [wanted[key] for key in sorted(wanted)]


async def test_a_sum_of_nothing_is_nothing(usage: Stub) -> None:
    assert await summed(usage) == [pb.UsageTotal()]
    assert await summed(usage, Group.GROUP_BY_MODEL) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "records[1].id"),
        ({"id": "x" * 65}, "records[1].id"),
        ({"model": "a\0b"}, "records[1].model"),
        ({"user": "x" * 513}, "records[1].user"),
        ({"prompt_tokens": -1}, "records[1].prompt_tokens"),
        ({"images": 2**62}, "records[1].images"),
        ({"outcome": 77}, "records[1].outcome"),
    ],
)
async def test_records_that_make_no_sense_are_refused_whole(
    usage: Stub, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kept(usage, record(1), record(2, **change))
    assert reason(caught.value) == ("INVALID_ARGUMENT", field)
    assert await listed(usage) == []


async def test_wrong_times_and_tokens_are_told(usage: Stub) -> None:
    odd = record(1)
    odd.start_time.seconds = -1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kept(usage, odd)
    assert reason(caught.value)[0] == "INVALID_ARGUMENT"
    odd = record(1)
    odd.ran.seconds = -1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kept(usage, odd)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "records[0].ran")
    await kept(usage, record(1), record(2))
    page = await usage("admin").ListUsage(service_pb.ListUsageRequest(page_size=1))
    of_another = service_pb.ListUsageRequest(
        filter=service_pb.UsageFilter(model="echo"), page_token=page.next_page_token
    )
    for request in (of_another, service_pb.ListUsageRequest(page_token="nonsense")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await usage("admin").ListUsage(request)
        assert reason(caught.value) == ("INVALID_ARGUMENT", "page_token")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await summed(usage, Group.GROUP_BY_DAY, Group.GROUP_BY_MONTH)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "group_by")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(usage, model="a\0")
    assert reason(caught.value) == ("INVALID_ARGUMENT", "filter.model")


async def test_old_records_go(usage: Stub, ledger: UsageLedger) -> None:
    hours = [-24 * 30 - 1, -24 * 30, 0]
    await kept(usage, *(record(at + 10**4, request_id=str(at)) for at in hours))
    old = [record(at + 10**4, request_id=str(at)) for at in hours]
    for one, at in zip(old, hours, strict=True):
        one.id = f"old{at}"
        one.start_time.FromDatetime(START + timedelta(hours=at))
    await kept(usage, *old)
    assert await ledger.drop_old() == 1
    assert len(await listed(usage)) == 5
    assert await ledger.drop_old() == 0
    forever = UsageLedger(ledger._store, clock=lambda: START + timedelta(days=9999))
    assert await forever.drop_old() == 0
    assert len(await listed(usage)) == 5


async def test_what_services_tell_comes_back_and_is_added_up(usage: Stub) -> None:
    """The client of the services, from a request's end to the ledger."""
    work = Work(ALICE, "req-9", "x/Chat", "echo", dialect="gel", user="u", digest="d")
    used = Used(Outcome.CANCELLED, 11, 7, 2, 3, 0.25, 1.5)
    made = Begun(work, 1_767_225_600_000_001).record(used)
    async with channel(usage.address, token="service") as opened:  # type: ignore[attr-defined]
        ledger = Ledger(opened)
        await ledger.record([made])
        since = datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)
        assert await ledger.spent("alice", since) == 18
        assert await ledger.spent("alice", since + timedelta(microseconds=1)) == 0
        assert await ledger.spent("bob", since) == 0
    (found,) = await listed(usage, "alice")
    assert (found.outcome, found.images, found.cached_tokens) == (pb.OUTCOME_CANCELLED, 3, 2)
    assert (found.queued.ToMilliseconds(), found.ran.ToMilliseconds()) == (250, 1500)
    assert found.start_time.ToMicroseconds() == 1_767_225_600_000_001
    assert (found.dialect, found.user, found.id) == ("gel", "u", made.id)


def test_every_outcome_has_a_value() -> None:
    assert set(OUTCOMES) == {outcome.value for outcome in Outcome}
    assert json.dumps(sorted(OUTCOMES.values())) == "[1, 2, 3, 4]"


async def test_many_who_tell_the_same_at_once(usage: Stub) -> None:
    made = [record(number) for number in range(60)]
    chance = random.Random(3)
    await asyncio.gather(*(kept(usage, *chance.sample(made, 40)) for _ in range(8)))
    await kept(usage, *made)
    assert len(await listed(usage)) == 60


async def test_too_many_sums_are_refused_not_cut(ledger: UsageLedger) -> None:
    def one(number: int) -> Usage:
        return replace(LEAST, id=str(number), principal=f"p{number:05}", model="m")

    for start in range(0, 10_000, 1000):
        await ledger.record([one(number) for number in range(start, start + 1000)])
    assert len(await ledger.total(Filter(), [kept_records.Group.PRINCIPAL])) == 10_000
    await ledger.record([one(10_000)])
    with pytest.raises(InvalidArgument) as caught:
        await ledger.total(Filter(), [kept_records.Group.PRINCIPAL])
    assert caught.value.field == "group_by"
    (total,) = await ledger.total(Filter(), [kept_records.Group.MODEL])
    assert total.requests == 10_001
    page = await ledger.page(Filter(), page_size=2**31 - 1, page_token="")
    assert (len(page.items), bool(page.next_page_token)) == (10_000, True)
