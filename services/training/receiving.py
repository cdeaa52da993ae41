"""Receives the content of a file: counts it, hashes it, and holds it against what was said."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from datetime import timedelta

from services.errors import FailedPrecondition, InvalidArgument, MessageTooLarge, Unavailable
from services.training.records import Purpose

_LARGE_BYTES = 64 * 1024
"""From here on hashing is worth a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """What an uploader says of a file before its content comes."""

    filename: str
    purpose: Purpose
    mime_type: str = ""
    """Empty: by the ending of the name."""
    size_bytes: int | None = None
    """None: not known."""
    sha256: str = ""
    """Empty: not known."""
    time_to_live: timedelta | None = None
    """None: for ever."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How much may come."""

    most_file_bytes: int
    most_owner_bytes: int = 0
    """0: any number."""
    used_bytes: int = 0
    """By other files of the owner."""

    def check(self, size: int, field: str | None = None) -> None:
        """Raises `MessageTooLarge` or `FailedPrecondition` where a file is too large."""
        if size > self.most_file_bytes:
            raise MessageTooLarge(
                f"The file has more than {self.most_file_bytes:,} bytes, the most that is taken "
                "(max_file_bytes). Split it.",
                field=field,
            )
        if self.most_owner_bytes and size > self.most_owner_bytes - self.used_bytes:
            raise no_room(self.most_owner_bytes)


def no_room(most_owner_bytes: int) -> FailedPrecondition:
    """The error for an owner whose files are too much together."""
    return FailedPrecondition(
        f"With this file, yours would have more than {most_owner_bytes:,} bytes together, the most "
        "that one key may keep (max_owner_bytes). Delete some."
    )


def given_up() -> Unavailable:
    """The error for an upload that a sweep took for dead."""
    return Unavailable(
        "The upload stood still for so long that it was given up. Send the file again."
    )


class Receipt:
    """What came of a file."""

    def __init__(self, new: NewFile, room: Room) -> None:
        """Expects a file. Raises `MessageTooLarge` or `FailedPrecondition` where its length is
        known, and too much."""
        self._new = new
        self._room = room
        self._hash = hashlib.sha256()
        self.size = 0
        if new.size_bytes is not None:
            room.check(new.size_bytes, "header.size_bytes")

    @property
    def sha256(self) -> str:
        """Hash of what came, hexadecimal."""
        return self._hash.hexdigest()

    async def checked(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Passes pieces on.

        Raises:
            MessageTooLarge: there are too many.
            FailedPrecondition: there are too many together with the owner's other files.
            InvalidArgument: length or hash are not what was said.
        """
        said = self._new.size_bytes
        async for piece in pieces:
            self.size += len(piece)
            self._room.check(self.size)
            if said is not None and self.size > said:
                raise self._wrong_size(f"more than {said} bytes came")
            if len(piece) > _LARGE_BYTES:
                await asyncio.to_thread(self._hash.update, piece)
            else:
                self._hash.update(piece)
            yield piece
        if said is not None and self.size != said:
            raise self._wrong_size(f"{self.size} bytes came, not {said}")
        if self._new.sha256 and self.sha256 != self._new.sha256:
            raise InvalidArgument(
                f"'header.sha256': what came has the SHA-256 {self.sha256}. Nothing was kept; send "
                "the file again.",
                field="header.sha256",
            )

    def _wrong_size(self, what: str) -> InvalidArgument:
        return InvalidArgument(
            f"'header.size_bytes': {what}. Nothing was kept; send the file again.",
            field="header.size_bytes",
        )
