"""The store port: where it is kept what there is to know of files. Their content is in blobs.

A row is written before a blob is, and deleted after it: what a process that died left behind is
found through its row, so nothing ever has to be guessed from the blobs themselves.

`sees` is the owner whose files a caller sees; None for everybody's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.training.records import Draft, File, Page, Purpose


class FileStore(Protocol):
    """Keeps files. Safe to use from several processes at once."""

    async def begin(self, draft: Draft) -> None:
        """Notes that a file is being received."""
        ...

    async def touch(self, id: str) -> None:
        """Notes that it still is."""
        ...

    async def keep(self, file: File, *, request_id: str, most_owner_bytes: int) -> File:
        """Makes a draft a file that is seen. Where the same non-empty `request_id` of its owner
        made an equal one before, that is returned, and the draft stays one. 0 bytes are no limit.

        Raises:
            AlreadyExists: the request ID made another file.
            FailedPrecondition: the owner's files would be more than `most_owner_bytes`.
            Unavailable: the draft was given up meanwhile.
        """
        ...

    async def made_by(self, owner: str, request_id: str) -> File | None:
        """Returns the file that a request ID made."""
        ...

    async def used_bytes(self, owner: str) -> int:
        """Returns how much all files of an owner have."""
        ...

    async def file(self, id: str, sees: str | None) -> File:
        """Gets one. Raises `NotFound`; so does one that has expired."""
        ...

    async def files(self, sees: str | None, purpose: Purpose | None, page: Page) -> Sequence[File]:
        """Lists them. Raises `InvalidArgument` where `page.after` comes without its time and is
        unknown."""
        ...

    async def remove(self, id: str, sees: str | None) -> None:
        """Makes a file unseen, to be forgotten once its blob is gone. Raises `NotFound`, and
        `FailedPrecondition` while a job or batch that hasn't ended uses it."""
        ...

    async def give_up(self, id: str) -> bool:
        """Does so with a draft; False where it is one no longer."""
        ...

    async def give_up_old(self, untouched_since: datetime) -> None:
        """Does so with all drafts untouched for so long, and with expired files. A file that a job
        uses expires when the job has ended."""
        ...

    async def removed(self, most: int) -> Sequence[str]:
        """IDs of what is unseen and not yet forgotten."""
        ...

    async def forget(self, id: str) -> None:
        """Deletes the row of what was removed."""
        ...
