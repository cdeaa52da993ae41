"""Where it is kept what there is to know of batches: the same answers from every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QueueFull,
    Unavailable,
)
from services.training.batch_bits import has_bit
from services.training.batch_names import new_batch_id
from services.training.batch_records import Batch, BatchError, BatchSpec, BatchState, Held, Part
from services.training.names import new_file_id
from services.training.records import Draft, File, Page, Purpose
from services.training.stores import Store, open_store

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=30)
ENDPOINT = "/v1/embeddings"


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stores(database_url: str, clock: Clock) -> AsyncIterator[tuple[Store, Store]]:
    """The same database, as two processes see it."""
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(open_store(database_url, clock=clock) for _ in range(2)))
        for store in opened:
            stack.push_async_callback(store.close)
        yield opened[0], opened[1]


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]


async def file_of(
    store: Store, owner: str = "me", purpose: Purpose = Purpose.BATCH, size: int = 10
) -> str:
    file = File(new_file_id(), owner, "a.jsonl", purpose, "x/y", size, "a" * 64, START)
    await store.files.begin(Draft(file.id, owner, file.filename, purpose, file.mime_type))
    await store.files.keep(file, request_id="", most_owner_bytes=0)
    return file.id


async def made(store: Store, owner: str = "me", request_id: str = "", **facts: Any) -> Batch:
    wishes = facts.pop("spec", {})
    input_file = wishes.pop("input_file", None) or await file_of(store, owner)
    limits = {
        name: facts.pop(name)
        for name in ("any_file", "most_file_bytes", "most_unended")
        if name in facts
    }
    spec = BatchSpec(input_file=input_file, **{"endpoint": ENDPOINT} | wishes)
    batch = Batch(
        **{
            "id": new_batch_id(),
            "owner": owner,
            "spec": spec,
            "state": BatchState.VALIDATING,
            "create_time": START,
            "expire_time": START + spec.window,
            "salt": "s",
        }
        | facts
    )
    return await store.batches.create(batch, request_id=request_id, **limits)


async def begun(store: Store, total: int = 3, owner: str = "me", **facts: Any) -> Batch:
    batch = await made(store, owner, **facts)
    return await store.batches.change(
        batch.id, None, lambda now: replace(now, state=BatchState.IN_PROGRESS, total=total)
    )


async def leased(store: Store) -> Held:
    held = await store.batches.lease([ENDPOINT], LEASE)
    assert held is not None
    return held


async def part(store: Store, output: int = 5, errors: int = 7) -> Part:
    draft = Draft(new_file_id(), "me", "part", Purpose.BATCH_OUTPUT, "x/y")
    await store.files.begin(draft)
    return Part(draft.id, output, errors)


async def append(
    store: Store, held: Held, completed: list[int], failed: list[int] | None = None
) -> Batch:
    return await store.batches.append(
        held.batch.id, held.lease_id, await part(store), completed, failed or []
    )


async def test_a_batch_comes_back_as_it_was_kept(stores: tuple[Store, Store]) -> None:
    spec = {
        "window": timedelta(seconds=90),
        "metadata": {"k": "ünï 👩"},
        "output_time_to_live": timedelta(hours=2),
    }
    batch = await made(stores[0], spec=spec)
    assert await stores[1].batches.batch(batch.id, "me") == batch
    errors = (BatchError("c", "m", "p", 3), BatchError("c", "m"))
    ended = await stores[0].batches.change(
        batch.id, "me", lambda now: replace(now, state=BatchState.FAILED, errors=errors)
    )
    assert ended.failed_time == START
    assert await stores[1].batches.batch(batch.id, None) == ended
    with pytest.raises(NotFound):
        await stores[0].batches.batch(batch.id, "you")


async def test_the_same_request_makes_one_batch(stores: tuple[Store, Store]) -> None:
    file = await file_of(stores[0])
    spec = {"input_file": file}
    both = await asyncio.gather(
        *(made(store, request_id="r", spec=dict(spec)) for store in stores for _ in range(3))
    )
    assert len({batch.id for batch in both}) == 1
    known = await stores[1].batches.made_by("me", "r", both[0].spec)
    assert known == both[0]
    with pytest.raises(AlreadyExists):
        await made(stores[0], request_id="r", spec={"input_file": file, "endpoint": "/v1/other"})
    assert (await made(stores[0], "you", request_id="r")).id != both[0].id


@pytest.mark.parametrize(
    ("facts", "limits", "error"),
    [
        ({"purpose": Purpose.FINE_TUNE}, {}, InvalidArgument),
        ({"owner": "you"}, {}, NotFound),
        ({"size": 11}, {"most_file_bytes": 10}, InvalidArgument),
        ({"size": 10}, {"most_file_bytes": 10}, None),
        ({"owner": "you"}, {"any_file": True}, None),
    ],
)
async def test_files_that_a_batch_takes(
    store: Store, facts: dict[str, Any], limits: dict[str, Any], error: type[Exception] | None
) -> None:
    file = await file_of(store, **facts)
    if error is None:
        await made(store, spec={"input_file": file}, **limits)
        return
    with pytest.raises(error) as raised:
        await made(store, spec={"input_file": file}, **limits)
    assert raised.value.field == "batch.input_file"  # type: ignore[attr-defined]


async def test_so_many_batches_and_no_more(store: Store) -> None:
    batch = await made(store, most_unended=2)
    await made(store, most_unended=2)
    with pytest.raises(QueueFull):
        await made(store, most_unended=2)
    await store.batches.change(batch.id, None, lambda now: replace(now, state=BatchState.FAILED))
    await made(store, most_unended=2)


async def test_pages_newest_first(store: Store) -> None:
    ids: list[str] = []
    for number in range(5):
        time = START + timedelta(seconds=number // 2)
        ids.append((await made(store, create_time=time)).id)
    await made(store, "you")
    seen = await store.batches.batches("me", Page(10))
    assert {batch.id for batch in seen} == set(ids)
    key = [(batch.create_time, batch.id) for batch in seen]
    assert key == sorted(key, reverse=True)
    rest = await store.batches.batches("me", Page(10, seen[1].id))
    assert rest == seen[2:]


async def test_a_file_that_a_batch_reads_stays(store: Store, clock: Clock) -> None:
    batch = await made(store)
    file = batch.spec.input_file
    with pytest.raises(FailedPrecondition, match=batch.id):
        await store.files.remove(file, "me")
    await store.batches.change(batch.id, None, lambda now: replace(now, state=BatchState.FAILED))
    await store.files.remove(file, "me")


async def test_a_file_expires_after_its_batch(store: Store, clock: Clock) -> None:
    file = File(new_file_id(), "me", "a", Purpose.BATCH, "x/y", 1, "a" * 64, START, START + LEASE)
    await store.files.begin(Draft(file.id, "me", "a", Purpose.BATCH, "x/y"))
    await store.files.keep(file, request_id="", most_owner_bytes=0)
    batch = await made(store, spec={"input_file": file.id})
    clock.passes(minutes=5)
    await store.files.give_up_old(START)
    assert await store.files.file(file.id, "me") == file
    await store.batches.change(batch.id, None, lambda now: replace(now, state=BatchState.FAILED))
    with pytest.raises(NotFound):
        await store.files.file(file.id, "me")


@pytest.mark.parametrize(
    "change",
    [
        {"state": BatchState.COMPLETED},
        {"state": BatchState.FINALIZING},
        {"state": BatchState.CANCELLED},
        {"owner": "you"},
        {"salt": "other"},
    ],
)
async def test_what_can_not_change(store: Store, change: dict[str, Any]) -> None:
    batch = await made(store)
    with pytest.raises(ValueError, match=r"can't"):
        await store.batches.change(batch.id, None, lambda now: replace(now, **change))
    assert await store.batches.batch(batch.id, None) == batch


async def test_one_holder_at_a_time(stores: tuple[Store, Store], clock: Clock) -> None:
    batch = await begun(stores[0])
    found = await asyncio.gather(
        *(store.batches.lease([ENDPOINT], LEASE) for store in stores for _ in range(4))
    )
    [held] = [one for one in found if one is not None]
    assert held.batch == batch
    clock.passes(seconds=29)
    assert await stores[1].batches.lease([ENDPOINT], LEASE) is None
    await stores[0].batches.renew(batch.id, held.lease_id, LEASE)
    clock.passes(seconds=29)
    assert await stores[1].batches.lease([ENDPOINT], LEASE) is None
    clock.passes(seconds=1)
    other = await leased(stores[1])
    assert other.lease_id != held.lease_id
    batches = stores[0].batches
    for call in (
        batches.renew(batch.id, held.lease_id, LEASE),
        batches.held(batch.id, held.lease_id),
        append(stores[0], held, [0]),
        batches.change(batch.id, None, lambda now: now, lease_id=held.lease_id),
    ):
        with pytest.raises(FailedPrecondition, match="lease"):
            await call
    await batches.release(batch.id, held.lease_id)
    assert (await batches.held(batch.id, other.lease_id)).batch == batch
    await batches.release(batch.id, other.lease_id)
    assert (await leased(stores[0])).batch == batch


async def test_many_holders_have_different_batches(stores: tuple[Store, Store]) -> None:
    ids = {(await begun(stores[0])).id for _ in range(6)}
    got: set[str] = set()
    for _ in range(12):  # one that comes too late for one may find none at once
        found = await asyncio.gather(
            *(store.batches.lease([ENDPOINT], LEASE) for store in stores for _ in range(2))
        )
        fresh = [one.batch.id for one in found if one is not None]
        assert not got & set(fresh)
        assert len(fresh) == len(set(fresh))
        got |= set(fresh)
    assert got == ids


async def test_who_has_fewest_goes_first(store: Store) -> None:
    for number in range(3):
        await begun(store, create_time=START + timedelta(seconds=number))
    await begun(store, owner="you", create_time=START + timedelta(seconds=60))
    order = [(await leased(store)).batch.owner for _ in range(4)]
    assert order == ["me", "you", "me", "me"]


async def test_batches_of_other_endpoints_are_left_alone(store: Store) -> None:
    await begun(store)
    assert await store.batches.lease(["/v1/other"], LEASE) is None
    assert await store.batches.lease(["/v1/other", ENDPOINT], LEASE) is not None


async def test_results_are_noted_once(stores: tuple[Store, Store]) -> None:
    batch = await begun(stores[0], total=10)
    held = await leased(stores[0])
    after = await append(stores[0], held, [0, 9], [4])
    assert (after.completed, after.failed) == (2, 1)
    for again in ([0], [1, 4]):
        with pytest.raises(Conflict):
            await append(stores[1], held, again)
    now = await stores[1].batches.held(batch.id, held.lease_id)
    assert now.batch == after
    assert [has_bit(now.done, number) for number in range(10)] == [
        number in (0, 4, 9) for number in range(10)
    ]
    assert [(one.output_bytes, one.error_bytes) for one in await stores[0].batches.parts(batch.id)]
    assert len(await stores[0].batches.parts(batch.id)) == 1


async def test_results_that_come_at_once_are_noted_once(stores: tuple[Store, Store]) -> None:
    batch = await begun(stores[0], total=4)
    held = await leased(stores[0])
    found = await asyncio.gather(
        *(append(store, held, [1]) for store in stores for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in found) == ["Batch", *["Conflict"] * 5]
    assert (await stores[0].batches.batch(batch.id, None)).completed == 1


async def test_a_part_that_was_given_up_is_not_noted(store: Store) -> None:
    batch = await begun(store)
    held = await leased(store)
    given_up = await part(store)
    await store.files.give_up(given_up.file_id)
    with pytest.raises(Unavailable):
        await store.batches.append(batch.id, held.lease_id, given_up, [0], [])
    assert (await store.batches.batch(batch.id, None)).completed == 0


async def test_with_the_last_result_a_batch_is_finalized(store: Store, clock: Clock) -> None:
    batch = await begun(store, total=2)
    held = await leased(store)
    await append(store, held, [1])
    clock.passes(seconds=5)
    last = await append(store, held, [], [0])
    assert last.state is BatchState.FINALIZING
    assert last.outcome is BatchState.COMPLETED
    assert last.finalizing_time == clock.now
    with pytest.raises(FailedPrecondition):
        await store.batches.renew(batch.id, held.lease_id, LEASE)
    assert await store.batches.lease([ENDPOINT], LEASE) is None
    chore = await store.batches.lease_chore(LEASE)
    assert chore is not None
    assert chore.batch == last
    assert await store.batches.lease_chore(LEASE) is None
    parts = await store.batches.parts(batch.id)
    end = await store.batches.change(
        batch.id,
        None,
        lambda now: replace(now, state=BatchState.COMPLETED),
        lease_id=chore.lease_id,
    )
    assert end.completed_time == clock.now
    assert set(await store.files.removed(10)) == {one.file_id for one in parts}
    assert await store.batches.parts(batch.id) == []
    assert await store.batches.lease_chore(LEASE) is None


async def test_parts_are_nobodys_files(store: Store) -> None:
    await begun(store)
    held = await leased(store)
    before = await store.files.used_bytes("me")
    await append(store, held, [0])
    [one] = await store.batches.parts(held.batch.id)
    with pytest.raises(NotFound):
        await store.files.file(one.file_id, None)
    assert await store.files.used_bytes("me") == before
    await store.files.give_up_old(START + timedelta(days=1))
    assert await store.files.removed(10) == []


@pytest.mark.parametrize("held", [False, True])
async def test_a_window_ends(store: Store, clock: Clock, held: bool) -> None:
    batch = await begun(store, spec={"window": timedelta(seconds=20)})
    lease = await leased(store) if held else None
    clock.passes(seconds=19)
    await store.batches.settle()
    assert (await store.batches.batch(batch.id, None)).outcome is None
    clock.passes(seconds=1)
    assert await store.batches.lease([ENDPOINT], LEASE) is None
    await store.batches.settle()
    assert (await store.batches.batch(batch.id, None)).outcome is BatchState.EXPIRED
    if lease is not None:
        with pytest.raises(FailedPrecondition):
            await append(store, lease, [0])
    assert await store.batches.lease_chore(LEASE) is not None


async def test_one_that_is_cancelled_is_let_go_of_first(store: Store, clock: Clock) -> None:
    batch = await begun(store)
    held = await leased(store)
    cancelling = await store.batches.change(
        batch.id, "me", lambda now: replace(now, state=BatchState.CANCELLING)
    )
    assert cancelling.cancelling_time == START
    await store.batches.settle()
    assert await store.batches.lease_chore(LEASE) is None
    await append(store, held, [0])
    assert (await store.batches.renew(batch.id, held.lease_id, LEASE)).completed == 1
    clock.passes(seconds=30)  # its holder died
    await store.batches.settle()
    assert (await store.batches.batch(batch.id, None)).outcome is BatchState.CANCELLED
    assert await store.batches.lease_chore(LEASE) is not None
