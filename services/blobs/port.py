"""The blob port: bytes under keys that the services make, never callers.

A blob is there whole or not at all, and never changes. Bytes come and go in pieces, so that none of
them needs to fit into memory.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Protocol

PIECE_BYTES = 1024 * 1024
"""Most bytes of a piece that is read."""

_SEGMENT = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(f"{_SEGMENT}(/{_SEGMENT}){{0,7}}")


class Blobs(Protocol):
    """Keeps blobs. Safe to use from several processes at once.

    Every method raises `Unavailable` where what keeps the blobs does not answer.
    """

    async def put(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        """Keeps these pieces, in order, once all of them came: an exception from `pieces`, or of
        any other kind, leaves nothing. Replaces a blob that has the key. What a process that died
        amid it left behind goes with `delete`.

        Raises:
            NotFound: `delete` was called meanwhile.
            StorageFull: there is no room for it.
        """
        ...

    def get(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Reads a blob, or `length` bytes of it from `offset` on; fewer where it ends before.

        Raises:
            NotFound: there is none.
        """
        ...

    async def size(self, key: str) -> int:
        """Returns its length in bytes. Raises `NotFound`."""
        ...

    async def delete(self, key: str) -> None:
        """Deletes a blob, if there is one."""
        ...

    async def close(self) -> None:
        """Lets go of what it holds."""
        ...


def check_key(key: str) -> str:
    """Returns the key. Raises `ValueError` for one that could lead anywhere else: each segment
    begins with a letter or digit."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob.")
    return key
