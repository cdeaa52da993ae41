"""Blobs in an object store, through fsspec.

They are written under another key and copied to theirs by the store itself, so that no half of one
is ever to be seen, whatever kind of file system it is.
"""

import threading
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from typing import Any

from services.blobs.port import PIECE_BYTES, check_key
from services.blobs.threads import Threads

_INCOMING = ".incoming"
_PART_BYTES = 8 * 1024 * 1024
"""Sent to the store at once; held in memory by each blob being written."""
_FETCHED_BYTES = 4 * 1024 * 1024
"""Asked of the store at once."""


class ObjectBlobs:
    """Keeps blobs in a file system of fsspec, below a root; see `services.blobs.port`."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._threads = Threads()

    async def put(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        """Keeps pieces; all of them or nothing."""
        draft = _Draft(self._system, self._draft(key), self._place(key))
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
        """Reads a blob, or a part of it."""
        size = await self.size(key)
        end = size if length is None else min(size, offset + length)
        while offset < end:
            stop = min(end, offset + _FETCHED_BYTES)
            fetched = await self._threads.run(
                self._system.cat_file, self._place(key), start=offset, end=stop
            )
            offset = stop
            for start in range(0, len(fetched), PIECE_BYTES):
                yield bytes(fetched[start : start + PIECE_BYTES])

    async def size(self, key: str) -> int:
        """Returns its length."""
        facts = await self._threads.run(self._system.info, self._place(key))
        return int(facts["size"])

    async def delete(self, key: str) -> None:
        """Deletes a blob, and what a process that died left of one."""
        await self._threads.run(_remove, self._system, self._place(key))
        await self._threads.run(_remove, self._system, self._draft(key))

    async def close(self) -> None:
        """Waits for what runs."""
        await self._threads.close()

    def _place(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _draft(self, key: str) -> str:
        return f"{self._root}/{_INCOMING}/{check_key(key)}"


class _Draft:
    """A blob being written. Its lock keeps the file open while a thread works with it."""

    def __init__(self, system: Any, draft: str, place: str) -> None:
        self._system, self._draft, self._place = system, draft, place
        self._lock = threading.Lock()
        self._file: Any = None
        self._opened = self._closed = False

    def open(self) -> None:
        """Begins to write."""
        with self._lock:
            if not self._closed:
                self._file = self._system.open(self._draft, "wb", block_size=_PART_BYTES)
                self._opened = True

    def write(self, piece: bytes) -> None:
        """Adds a piece."""
        with self._lock:
            if self._file is not None:
                self._file.write(piece)

    def keep(self) -> None:
        """Puts the blob in its place."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
                self._system.cp_file(self._draft, self._place)

    def close(self) -> None:
        """Gives the blob up, unless it is kept."""
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
            if file is not None:
                _abandon(file)
            if self._opened:
                _remove(self._system, self._draft)


def _abandon(file: Any) -> None:
    """Closes a file without sending the rest of it."""
    # Or it would be sent when Python lets go of the file.
    with suppress(AttributeError):
        file.closed = True
    file.discard()


def _remove(system: Any, path: str) -> None:
    with suppress(FileNotFoundError):
        system.rm_file(path)
