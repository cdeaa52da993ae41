"""Blobs in a folder.

They are written beside their place, synced to the disk and moved there whole, so that neither a
crash nor a full disk leaves half a blob.
"""

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from pathlib import Path

from services.blobs.port import PIECE_BYTES, check_key
from services.blobs.threads import Threads

_INCOMING = ".incoming"
"""No key begins with a dot."""


class FolderBlobs:
    """Keeps blobs in a folder; see `services.blobs.port`."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is missing. Raises `OSError`."""
        self._folder = folder.absolute()
        (self._folder / _INCOMING).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._threads = Threads()

    async def put(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        """Keeps pieces; all of them or nothing."""
        draft = _Draft(self._draft(key), self._place(key), self._folder)
        try:
            await self._threads.run(draft.open)
            async for piece in pieces:
                await self._threads.run(draft.write, piece)
            await self._threads.run(draft.keep)
        finally:
            await self._threads.run(draft.close)

    async def get(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Reads a blob, or a part of it; to its end also where it is deleted meanwhile."""
        file = _Reading(self._place(key))
        left = length
        try:
            await self._threads.run(file.open)
            while left is None or left > 0:
                most = PIECE_BYTES if left is None else min(left, PIECE_BYTES)
                piece = await self._threads.run(file.read, most, offset)
                if not piece:
                    return
                offset += len(piece)
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            await self._threads.run(file.close)

    async def size(self, key: str) -> int:
        """Returns its length."""
        return (await self._threads.run(self._place(key).stat)).st_size

    async def delete(self, key: str) -> None:
        """Deletes a blob, and what a process that died left of one."""
        await self._threads.run(self._place(key).unlink, missing_ok=True)
        await self._threads.run(self._draft(key).unlink, missing_ok=True)

    async def close(self) -> None:
        """Waits for what runs."""
        await self._threads.close()

    def _place(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _draft(self, key: str) -> Path:
        return self._folder / _INCOMING / check_key(key)


class _Draft:
    """A blob being written. Its lock keeps the file open while a thread works with it."""

    def __init__(self, draft: Path, place: Path, folder: Path) -> None:
        self._draft, self._place, self._folder = draft, place, folder
        self._lock = threading.Lock()
        self._file: int | None = None
        self._closed = False

    def open(self) -> None:
        """Makes the file."""
        with self._lock:
            self._draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            if not self._closed:
                self._file = os.open(self._draft, flags, 0o600)

    def write(self, piece: bytes) -> None:
        """Adds a piece."""
        with self._lock:
            if self._file is None:
                return  # given up
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def keep(self) -> None:
        """Puts the blob in its place."""
        with self._lock:
            if self._file is None:
                return
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
            for folder in reversed([self._place.parent, *self._place.parent.parents]):
                if folder.is_relative_to(self._folder) and not folder.exists():
                    folder.mkdir(exist_ok=True, mode=0o700)
                    _sync(folder.parent)
            self._draft.rename(self._place)
            _sync(self._place.parent)

    def close(self) -> None:
        """Gives the blob up, unless it is kept."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
            with suppress(FileNotFoundError):
                self._draft.unlink()


class _Reading:
    """A blob being read. Its lock keeps the file open while a thread works with it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._file: int | None = None
        self._closed = False

    def open(self) -> None:
        """Opens the file."""
        with self._lock:
            if not self._closed:
                self._file = os.open(self._place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def read(self, most: int, offset: int) -> bytes:
        """Reads a piece; none at the end."""
        with self._lock:
            return b"" if self._file is None else os.pread(self._file, most, offset)

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _sync(folder: Path) -> None:
    """Makes what happened in a folder outlast a power cut."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
