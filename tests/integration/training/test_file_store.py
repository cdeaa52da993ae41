"""Where it is kept what there is to know of files: the same answers from every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect

from services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.training.names import new_file_id
from services.training.records import Draft, File, Page, Purpose
from services.training.store import FileStore
from services.training.stores import open_store
from services.training.stores.tables import METADATA

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stores(database_url: str, clock: Clock) -> AsyncIterator[tuple[FileStore, FileStore]]:
    """The same database, as two processes see it."""
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(open_store(database_url, clock=clock) for _ in range(2)))
        for store in opened:
            stack.push_async_callback(store.close)
        yield opened[0].files, opened[1].files


@pytest.fixture
def store(stores: tuple[FileStore, FileStore]) -> FileStore:
    return stores[0]


def made(owner: str = "me", **facts: Any) -> File:
    defaults = {
        "filename": "ünï 👩.jsonl",
        "purpose": Purpose.FINE_TUNE,
        "mime_type": "application/jsonl",
        "size_bytes": 10,
        "sha256": "a" * 64,
        "create_time": START,
    }
    return File(**{"id": new_file_id(), "owner": owner} | defaults | facts)


async def begin(store: FileStore, file: File) -> None:
    await store.begin(Draft(file.id, file.owner, file.filename, file.purpose, file.mime_type))


async def put(
    store: FileStore, file: File | None = None, request_id: str = "", most: int = 0, **facts: Any
) -> File:
    file = file or made(**facts)
    await begin(store, file)
    return await store.keep(file, request_id=request_id, most_owner_bytes=most)


async def test_what_is_kept_is_found(stores: tuple[FileStore, FileStore]) -> None:
    store, other = stores
    file = made(expire_time=START + timedelta(seconds=1), size_bytes=2**40)
    assert await put(store, file) == file
    assert await other.file(file.id, "me") == file
    assert await other.file(file.id, None) == file
    with pytest.raises(NotFound):
        await other.file(file.id, "you")


async def test_drafts_are_not_seen(store: FileStore) -> None:
    file = made()
    await begin(store, file)
    with pytest.raises(NotFound):
        await store.file(file.id, None)
    with pytest.raises(NotFound):
        await store.remove(file.id, None)
    assert await store.files(None, None, Page(10)) == []
    assert await store.used_bytes("me") == 0


async def test_what_was_given_up_can_not_be_kept(stores: tuple[FileStore, FileStore]) -> None:
    store, other = stores
    file = made()
    await begin(store, file)
    assert await other.give_up(file.id)
    assert not await other.give_up(file.id)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.keep(file, request_id="r", most_owner_bytes=0)
        await store.forget(file.id)
    assert await store.made_by("me", "r") is None


async def test_what_was_kept_can_not_be_given_up(store: FileStore) -> None:
    file = await put(store)
    assert not await store.give_up(file.id)
    await store.forget(file.id)
    assert await store.file(file.id, None) == file


async def test_removed_is_unseen_until_it_is_forgotten(store: FileStore) -> None:
    file = await put(store)
    with pytest.raises(NotFound):
        await store.remove(file.id, "you")
    await store.remove(file.id, "me")
    with pytest.raises(NotFound):
        await store.remove(file.id, None)
    assert await store.removed(10) == [file.id]
    assert await store.used_bytes("me") == 0
    await store.forget(file.id)
    assert await store.removed(10) == []


async def test_old_drafts_and_expired_files_are_given_up(store: FileStore, clock: Clock) -> None:
    stays = await put(store, expire_time=START + timedelta(hours=3))
    expires = await put(store, expire_time=START + timedelta(hours=1))
    old, touched = made(), made()
    await begin(store, old)
    await begin(store, touched)
    clock.now += timedelta(hours=1)
    await store.touch(touched.id)
    await store.give_up_old(clock.now - timedelta(minutes=10))
    assert set(await store.removed(10)) == {expires.id, old.id}
    assert len(await store.removed(1)) == 1
    assert [file.id for file in await store.files(None, None, Page(10))] == [stays.id]
    await store.keep(touched, request_id="", most_owner_bytes=0)


async def test_a_request_id_makes_one_file(stores: tuple[FileStore, FileStore]) -> None:
    files = [made() for _ in range(6)]
    for file in files:
        await begin(stores[0], file)
    kept = await asyncio.gather(
        *(
            stores[number % 2].keep(file, request_id="r", most_owner_bytes=0)
            for number, file in enumerate(files)
        )
    )
    assert len({file.id for file in kept}) == 1
    assert await stores[0].made_by("me", "r") == kept[0]
    assert await stores[0].made_by("you", "r") is None
    with pytest.raises(AlreadyExists):
        await put(stores[0], request_id="r", filename="b")
    await put(stores[0], request_id="r", owner="you", filename="b")


async def test_an_expired_file_lets_its_request_id_go(store: FileStore, clock: Clock) -> None:
    await put(store, request_id="r", expire_time=START + timedelta(hours=1))
    clock.now += timedelta(hours=1)
    assert await store.made_by("me", "r") is None
    second = await put(store, request_id="r", filename="b")
    assert await store.made_by("me", "r") == second


async def test_an_owner_has_a_limit_over_all_processes(stores: tuple[FileStore, FileStore]) -> None:
    await put(stores[0], owner="you", size_bytes=10**15)
    files = [made() for _ in range(6)]
    for file in files:
        await begin(stores[0], file)
    results = await asyncio.gather(
        *(
            stores[number % 2].keep(file, request_id="", most_owner_bytes=35)
            for number, file in enumerate(files)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in refused] == [FailedPrecondition] * 3
    assert await stores[1].used_bytes("me") == 30


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ticks=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    size=st.integers(1, 5),
    descending=st.booleans(),
    purpose=st.sampled_from([None, Purpose.FINE_TUNE, Purpose.EVALS]),
    by_id=st.booleans(),
)
async def test_pages_are_the_list(
    store: FileStore,
    ticks: list[int],
    size: int,
    descending: bool,
    purpose: Purpose | None,
    by_id: bool,
) -> None:
    owner = new_file_id()  # each example has an owner of its own
    files = [
        await put(
            store,
            owner=owner,
            create_time=START + timedelta(microseconds=tick),
            purpose=[Purpose.FINE_TUNE, Purpose.EVALS][number % 2],
        )
        for number, tick in enumerate(ticks)
    ]
    wanted = sorted(
        (file for file in files if purpose in (None, file.purpose)),
        key=lambda file: (file.create_time, file.id),
        reverse=descending,
    )
    found: list[File] = []
    page = Page(size, descending=descending)
    while some := await store.files(owner, purpose, page):
        found += some
        last = some[-1]
        page = Page(size, last.id, descending, None if by_id else last.create_time)
    assert found == wanted


async def test_a_page_after_what_the_caller_does_not_see_is_refused(store: FileStore) -> None:
    theirs = await put(store, owner="you")
    for after in (theirs.id, new_file_id()):
        with pytest.raises(InvalidArgument) as caught:
            await store.files("me", None, Page(10, after))
        assert caught.value.field == "after"
    # With its time the place is known, whether or not the file is still there.
    assert await store.files("me", None, Page(10, theirs.id, True, START)) == []


async def test_processes_that_find_no_schema_make_it_together(new_database_url: str) -> None:
    opened = await asyncio.gather(*(open_store(new_database_url) for _ in range(3)))
    try:
        file = await put(opened[0].files)
        for store in opened:
            assert await store.files.file(file.id, "me") == file
    finally:
        for store in opened:
            await store.close()


async def test_the_schema_is_that_of_the_tables(database_url: str, store: FileStore) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("one database is enough")
    engine = create_engine(database_url)
    try:
        found = inspect(engine)
        for table in METADATA.sorted_tables:
            columns = {column["name"] for column in found.get_columns(table.name)}
            assert columns == set(table.columns.keys())
            indexes = {index["name"] for index in found.get_indexes(table.name)}
            assert {index.name for index in table.indexes} <= indexes
    finally:
        engine.dispose()
