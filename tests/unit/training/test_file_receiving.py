"""What comes of a file is held against what was said of it."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import DomainError, FailedPrecondition, InvalidArgument, MessageTooLarge
from services.training.receiving import NewFile, Receipt, Room
from services.training.records import Purpose

ROOM = Room(1000)


def new(**facts: Any) -> NewFile:
    return NewFile(filename="a", purpose=Purpose.FINE_TUNE, **facts)


async def pieces(content: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=30)), st.booleans())
async def test_content_passes_as_it_is(content: list[bytes], said: bool) -> None:
    whole = b"".join(content)
    sha256 = hashlib.sha256(whole).hexdigest()
    facts = {"size_bytes": len(whole), "sha256": sha256} if said else {}
    receipt = Receipt(new(**facts), ROOM)
    assert b"".join([piece async for piece in receipt.checked(pieces(content))]) == whole
    assert (receipt.size, receipt.sha256) == (len(whole), sha256)


async def test_large_pieces_are_hashed_too() -> None:
    large = b"x" * 300_000
    receipt = Receipt(new(), Room(10**6))
    assert [piece async for piece in receipt.checked(pieces([large, b"y", large]))]
    assert receipt.sha256 == hashlib.sha256(large + b"y" + large).hexdigest()


@pytest.mark.parametrize(
    ("facts", "room", "error", "field"),
    [
        ({"size_bytes": 9}, ROOM, InvalidArgument, "header.size_bytes"),
        ({"size_bytes": 11}, ROOM, InvalidArgument, "header.size_bytes"),
        ({"size_bytes": 0}, ROOM, InvalidArgument, "header.size_bytes"),
        ({"sha256": "0" * 64}, ROOM, InvalidArgument, "header.sha256"),
        ({}, Room(9), MessageTooLarge, None),
        ({"size_bytes": 10}, Room(9), MessageTooLarge, "header.size_bytes"),
        ({}, Room(100, 20, 11), FailedPrecondition, None),
        ({"size_bytes": 10}, Room(100, 20, 11), FailedPrecondition, None),
        ({}, Room(100, 20, 30), FailedPrecondition, None),
    ],
)
async def test_what_does_not_fit_is_refused(
    facts: dict[str, Any], room: Room, error: type[DomainError], field: str | None
) -> None:
    with pytest.raises(error) as caught:
        async for _ in Receipt(new(**facts), room).checked(pieces([b"12345", b"67890"])):
            pass
    assert caught.value.field == field


@pytest.mark.parametrize("room", [Room(10), Room(10, 10, 0), Room(10, 30, 20), Room(10, 0, 99)])
async def test_what_just_fits_is_taken(room: Room) -> None:
    receipt = Receipt(new(size_bytes=10), room)
    assert [piece async for piece in receipt.checked(pieces([b"12345", b"67890"]))]


async def test_too_much_is_refused_before_more_is_read() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 100

    with pytest.raises(MessageTooLarge):
        async for _ in Receipt(new(), ROOM).checked(endless()):
            pass
    assert read == 11
