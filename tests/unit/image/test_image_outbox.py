"""Between a job and its reader: nothing that counts is lost, and memory stays bounded."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import Unavailable
from services.image.events import Event, FinishedImage, Preview, Progress, State
from services.image.outbox import Outbox

PROGRESS = Progress("j", State.RUNNING, 0, 0, 1, 0, 10, 0.0, None, 0.0, None)


def image(index: int, size: int = 10) -> FinishedImage:
    return FinishedImage(index, bytes(size), "image/png", 8, 8, index, None, "")


def progress(step: int, preview: bytes | None = None) -> Progress:
    shown = None if preview is None else Preview(preview, "image/jpeg", step)
    return replace(PROGRESS, step=step, preview=shown)


async def read(outbox: Outbox, count: int | None = None) -> list[Event]:
    found: list[Event] = []
    async with aclosing(outbox.events()) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


@given(kinds=st.lists(st.sampled_from(["progress", "preview", "image"]), max_size=30))
async def test_images_are_kept_and_progress_is_the_newest(kinds: list[str]) -> None:
    outbox = Outbox()
    for number, kind in enumerate(kinds):
        outbox.put(
            image(number)
            if kind == "image"
            else progress(number, b"p" if kind == "preview" else None)
        )
    outbox.close()
    found = await read(outbox)
    images = [each.index for each in found if isinstance(each, FinishedImage)]
    assert images == [number for number, kind in enumerate(kinds) if kind == "image"]
    assert len(found) <= 2 * len(images) + 1, "between images there is one word of progress"
    told = [each for each in found if isinstance(each, Progress)]
    wanted = [
        number
        for number, kind in enumerate(kinds)
        if kind != "image" and kinds[number + 1 : number + 2] in ([], ["image"])
    ]
    assert [each.step for each in told] == wanted
    if "preview" in kinds:
        assert [each for each in told if each.preview]


async def test_it_is_full_until_it_is_read() -> None:
    room: list[str] = []
    outbox = Outbox(most_bytes=25, on_room=lambda: room.append("room"))
    for number in range(2):
        outbox.put(image(number))
    assert not outbox.full
    outbox.put(image(2))
    assert outbox.full
    assert len(await read(outbox, 1)) == 1
    assert not outbox.full
    assert room == ["room"]
    assert len(await read(outbox, 2)) == 2
    assert room == ["room"]


async def test_images_come_before_the_error() -> None:
    outbox = Outbox()
    outbox.put(image(0))
    outbox.close(Unavailable("gone"))
    outbox.put(image(1))
    events = outbox.events()
    assert await anext(events) == image(0)
    with pytest.raises(Unavailable, match="gone"):
        await anext(events)


async def test_who_waits_is_woken() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(read(outbox))
    await asyncio.sleep(0)
    outbox.put(image(0))
    await asyncio.sleep(0)
    outbox.close()
    assert await reading == [image(0)]


async def test_what_lies_unread_is_told_of_once() -> None:
    told = asyncio.Event()
    outbox = Outbox(timeout_s=0.01, on_slow=told.set)
    outbox.put(image(0))
    assert await read(outbox, 1) == [image(0)]
    await asyncio.sleep(0.03)
    assert not told.is_set(), "all is read"
    outbox.put(image(1))
    async with asyncio.timeout(60):
        await told.wait()
    outbox.abandon(Unavailable("slow"))
    with pytest.raises(Unavailable):
        await read(outbox)
    assert not outbox.full
