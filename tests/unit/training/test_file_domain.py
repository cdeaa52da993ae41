"""Files from upload to sweep, over a real database and a real folder."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.blobs.folder import FolderBlobs
from services.errors import (
    AlreadyExists,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    MessageTooLarge,
    NotFound,
    OutOfRange,
    QueueFull,
    Unavailable,
)
from services.training.files import FileLimits, Files
from services.training.paging import Asked
from services.training.receiving import NewFile
from services.training.records import Caller, File, Purpose
from services.training.store import FileStore
from services.training.stores import open_store
from services.training.sweeping import keep_swept

ME, YOU, ADMIN = Caller("me"), Caller("you"), Caller("boss", is_admin=True)
LIMITS = FileLimits(max_file_bytes=1000, max_owner_bytes=2500, max_uploads=3)


class Folder(FolderBlobs):
    """A folder that can be made to fail."""

    broken = False

    async def delete(self, key: str) -> None:
        if self.broken:
            raise Unavailable("The storage of files does not answer.")
        await super().delete(key)


@dataclass
class Place:
    """Files, and what they are kept in."""

    files: Files
    store: FileStore
    blobs: Folder
    folder: Path
    now: datetime = field(default=datetime(2026, 1, 1, tzinfo=UTC))

    def on_disk(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    async def seen(self, caller: Caller = ME) -> list[str]:
        return [file.id for file in (await self.files.list(Asked(), None, caller)).items]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def opened(limits: FileLimits = LIMITS) -> Place:
            place: Place

            def clock() -> datetime:
                return place.now

            store = await open_store(f"sqlite:///{tmp_path}/training.db", clock=clock)
            stack.push_async_callback(store.close)
            blobs = Folder(tmp_path / "blobs")
            stack.push_async_callback(blobs.close)
            files = Files(store.files, blobs, limits, clock=clock)
            stack.push_async_callback(files.close)
            place = Place(files, store.files, blobs, tmp_path / "blobs")
            return place

        yield opened


@pytest.fixture
async def place(make: Callable[..., Any]) -> Place:
    return await make()


def new(**facts: Any) -> NewFile:
    return NewFile(**{"filename": "a.jsonl", "purpose": Purpose.FINE_TUNE} | facts)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def put(place: Place, content: bytes = b"content", caller: Caller = ME, **facts: Any) -> File:
    return await place.files.upload(new(**facts), pieces(content), caller)


async def read(place: Place, id: str, offset: int = 0, caller: Caller = ME) -> bytes:
    return b"".join([piece async for piece in place.files.read(id, offset, caller)])


async def test_what_is_uploaded_is_downloaded(place: Place) -> None:
    file = await put(place, b"one two", mime_type="text/plain")
    assert file == File(
        id=file.id,
        owner="me",
        filename="a.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="text/plain",
        size_bytes=7,
        sha256=hashlib.sha256(b"one two").hexdigest(),
        create_time=place.now,
    )
    assert await place.files.get(file.id, ME) == file
    assert await place.seen() == [file.id]
    assert await read(place, file.id) == b"one two"
    assert await read(place, file.id, 4) == b"two"
    assert await read(place, file.id, 7) == b""
    with pytest.raises(OutOfRange):
        await read(place, file.id, 8)


@pytest.mark.parametrize(
    ("facts", "content", "error", "at"),
    [
        ({"filename": "../a"}, b"x", InvalidArgument, "header.filename"),
        ({"mime_type": "nonsense"}, b"x", InvalidArgument, "header.mime_type"),
        ({"purpose": Purpose.BATCH_OUTPUT}, b"x", InvalidArgument, "header.purpose"),
        ({"request_id": "a\0b"}, b"x", InvalidArgument, "header.request_id"),
        ({"size_bytes": 2}, b"x", InvalidArgument, "header.size_bytes"),
        ({"sha256": "0" * 64}, b"x", InvalidArgument, "header.sha256"),
        ({}, b"x" * 1001, MessageTooLarge, None),
    ],
)
async def test_nothing_is_kept_of_what_is_refused(
    place: Place, facts: dict[str, Any], content: bytes, error: type[DomainError], at: str | None
) -> None:
    with pytest.raises(error) as caught:
        await put(place, content, **facts)
    assert caught.value.field == at
    assert (await place.seen(), place.on_disk()) == ([], [])
    assert await place.store.removed(10) == []


async def test_purposes_and_types_may_be_limited(make: Callable[..., Any]) -> None:
    place = await make(
        replace(LIMITS, purposes=frozenset({Purpose.FINE_TUNE}), types=["application/jsonl"])
    )
    await put(place)
    with pytest.raises(InvalidArgument, match="fine-tune"):
        await put(place, purpose=Purpose.BATCH)
    with pytest.raises(InvalidArgument, match="application/jsonl"):
        await put(place, filename="a.pdf")


async def test_others_do_not_see_it(place: Place) -> None:
    mine, yours = await put(place), await put(place, caller=YOU)
    for call in (
        place.files.get(mine.id, YOU),
        place.files.delete(mine.id, YOU),
        read(place, mine.id, caller=YOU),
    ):
        with pytest.raises(NotFound, match=mine.id):
            await call
    assert await place.seen(YOU) == [yours.id]
    assert set(await place.seen(ADMIN)) == {mine.id, yours.id}
    assert await read(place, mine.id, caller=ADMIN) == b"content"
    await place.files.delete(mine.id, ADMIN)
    assert await place.seen() == []


async def test_deleted_is_gone(place: Place) -> None:
    file = await put(place)
    await place.files.delete(file.id, ME)
    assert (await place.seen(), place.on_disk()) == ([], [])
    for call in (place.files.get(file.id, ME), place.files.delete(file.id, ME)):
        with pytest.raises(NotFound):
            await call


async def test_what_can_not_be_deleted_now_is_swept_later(place: Place) -> None:
    file = await put(place)
    place.blobs.broken = True
    await place.files.delete(file.id, ME)
    assert (await place.seen(), place.on_disk()) == ([], [file.id])
    await place.files.sweep()
    assert place.on_disk() == [file.id]
    place.blobs.broken = False
    await place.files.sweep()
    assert place.on_disk() == []
    assert await place.store.removed(10) == []


async def test_files_of_one_owner_have_a_limit_together(place: Place) -> None:
    first = await put(place, b"x" * 1000)
    await put(place, b"x" * 1000)
    for facts in ({}, {"size_bytes": 501}):
        with pytest.raises(FailedPrecondition, match="2,500"):
            await put(place, b"x" * 501, **facts)
    await put(place, b"x" * 1000, YOU)
    await put(place, b"x" * 500)
    await place.files.delete(first.id, ME)
    await put(place, b"x" * 1000)


async def test_uploads_at_the_same_time_can_not_break_the_limit(place: Place) -> None:
    await put(place, b"x" * 1000)
    both = [put(place, b"x" * 1000), put(place, b"x" * 1000)]
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(result) for result in results if isinstance(result, Exception)) == [
        FailedPrecondition
    ]
    assert len(await place.seen()) == len(place.on_disk()) == 2


async def test_uploads_at_the_same_time_are_limited(place: Place) -> None:
    go = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"
        await go.wait()

    running = [asyncio.create_task(place.files.upload(new(), waiting(), ME)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await put(place)
    go.set()
    await asyncio.gather(*running)
    await put(place)


async def test_an_upload_is_not_seen_before_it_is_whole(place: Place) -> None:
    go = asyncio.Event()
    begun = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await go.wait()

    running = asyncio.create_task(place.files.upload(new(), waiting(), ME))
    await begun.wait()
    assert await place.seen(ADMIN) == []
    go.set()
    kept = await running
    assert await place.seen(ADMIN) == [kept.id]


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30, 100])
async def test_a_cancelled_upload_is_whole_or_nothing(place: Place, turns: int) -> None:
    begun = asyncio.Event()

    async def short() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()

    running = asyncio.create_task(place.files.upload(new(), short(), ME))
    await begun.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    await place.files.close()
    seen = await place.seen()
    assert place.on_disk() == seen
    for id in seen:
        assert await read(place, id) == b"x"
    assert await place.store.removed(10) == []


class TestRepeats:
    async def test_the_same_again_is_the_same_file(self, place: Place) -> None:
        ttl = timedelta(hours=1)
        first = await put(place, request_id="r", time_to_live=ttl)
        place.now += timedelta(minutes=1)
        assert await put(place, request_id="r", time_to_live=ttl) == first
        assert len(place.on_disk()) == 1

    @pytest.mark.parametrize(
        "facts",
        [
            {"content": b"other"},
            {"filename": "b.jsonl"},
            {"purpose": Purpose.BATCH},
            {"mime_type": "text/plain"},
            {"time_to_live": timedelta(hours=1)},
        ],
    )
    async def test_another_is_refused(self, place: Place, facts: dict[str, Any]) -> None:
        first = await put(place, request_id="r")
        with pytest.raises(AlreadyExists):
            await put(place, request_id="r", **facts)
        assert await place.seen() == place.on_disk() == [first.id]

    async def test_owners_have_their_own(self, place: Place) -> None:
        assert await put(place, request_id="r") != await put(place, caller=YOU, request_id="r")

    async def test_it_takes_no_room(self, place: Place) -> None:
        first = await put(place, b"x" * 1000, request_id="r")
        await put(place, b"x" * 1000)
        assert await put(place, b"x" * 1000, request_id="r") == first

    async def test_at_the_same_time_they_make_one(self, place: Place) -> None:
        made = await asyncio.gather(*(put(place, request_id="r") for _ in range(3)))
        assert {file.id for file in made} == set(await place.seen()) == set(place.on_disk())
        assert len(set(made)) == 1

    async def test_a_broken_upload_does_not_take_it(self, place: Place) -> None:
        with pytest.raises(InvalidArgument):
            await put(place, request_id="r", size_bytes=99)
        await put(place, request_id="r")

    @pytest.mark.parametrize("swept", [True, False])
    async def test_a_file_that_is_gone_does_not_keep_it(self, place: Place, swept: bool) -> None:
        first = await put(place, request_id="r", time_to_live=timedelta(hours=1))
        place.now += timedelta(hours=2)
        if swept:
            await place.files.sweep()
        second = await put(place, request_id="r", time_to_live=timedelta(hours=1))
        assert second.id != first.id
        await place.files.delete(second.id, ME)
        assert (await put(place, request_id="r")).id != second.id


class TestSweep:
    async def test_expired_files_are_gone_at_once_and_deleted_soon(self, place: Place) -> None:
        stays = await put(place)
        goes = await put(place, time_to_live=timedelta(hours=1))
        assert goes.expire_time == place.now + timedelta(hours=1)
        place.now += timedelta(minutes=59)
        await place.files.sweep()
        assert len(await place.seen()) == 2
        place.now += timedelta(minutes=1)
        assert await place.seen() == [stays.id]
        with pytest.raises(NotFound):
            await place.files.get(goes.id, ME)
        with pytest.raises(NotFound):
            await place.files.delete(goes.id, ME)
        await place.files.sweep()
        assert place.on_disk() == [stays.id]

    async def test_what_a_dead_process_left_is_deleted(
        self, place: Place, make: Callable[..., Any]
    ) -> None:
        begun = asyncio.Event()

        async def dying() -> AsyncIterator[bytes]:
            yield b"half"
            begun.set()
            await asyncio.Event().wait()

        # It is never told to stop: for the database and the folder that is what a death is.
        running = asyncio.create_task(place.files.upload(new(), dying(), ME))
        await begun.wait()
        other = await make()
        await other.files.sweep()
        assert len(other.on_disk()) == 1
        other.now = place.now + timedelta(minutes=11)
        await other.files.sweep()
        assert other.on_disk() == []
        running.cancel()
        await asyncio.wait({running})

    async def test_an_upload_that_was_given_up_can_not_come_back(
        self, place: Place, make: Callable[..., Any]
    ) -> None:
        go = asyncio.Event()
        begun = asyncio.Event()

        async def sleeping() -> AsyncIterator[bytes]:
            yield b"half"
            begun.set()
            await go.wait()
            yield b"the rest"

        running = asyncio.create_task(place.files.upload(new(), sleeping(), ME))
        await begun.wait()
        other = await make()
        other.now = place.now + timedelta(minutes=11)
        await other.files.sweep()
        go.set()
        with pytest.raises(Unavailable):
            await running
        assert (await place.seen(), place.on_disk()) == ([], [])

    async def test_an_upload_that_is_touched_is_left_alone(self, place: Place) -> None:
        go = asyncio.Event()
        begun = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"half"
            begun.set()
            await go.wait()

        running = asyncio.create_task(place.files.upload(new(), slow(), ME))
        await begun.wait()
        (name,) = place.on_disk()
        place.now += timedelta(minutes=9)
        await place.store.touch(name)
        place.now += timedelta(minutes=9)
        await place.files.sweep()
        go.set()
        kept = await running
        assert await place.seen() == [kept.id]

    async def test_health_follows(self, place: Place) -> None:
        told: asyncio.Queue[bool] = asyncio.Queue()
        file = await put(place)
        loop = asyncio.create_task(keep_swept(place.files, 0.01, tell=told.put_nowait))
        with sqlite3.connect(place.folder.parent / "training.db") as database:
            database.execute("ALTER TABLE training_files RENAME TO away")
        assert await asyncio.wait_for(told.get(), 30) is False
        with contextlib.closing(database):
            database.execute("ALTER TABLE away RENAME TO training_files")
        assert await asyncio.wait_for(told.get(), 30) is True
        loop.cancel()
        await asyncio.wait({loop})
        assert place.on_disk() == [file.id]
