"""The store port of batches: they, who works on them, and which results there are.

Batches share a database with files, and a file that a batch reads can't be removed before that has
ended, nor does it expire till then. A part of the results is a file that nobody sees: a draft until
`append` notes its results, and gone with the batch's end.

Whoever works on a batch holds a lease of it. What is done with a lease that is not the batch's last
raises `FailedPrecondition`, and changes nothing: that is what keeps two from writing results of the
same request.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from services.training.batch_records import Batch, BatchSpec, Held, Part
from services.training.records import Page

BatchChange = Callable[[Batch], Batch]
"""Makes of a batch as it is the batch as it is to be. It may raise a domain error: then nothing
changes. It may run more than once."""


class BatchStore(Protocol):
    """Keeps batches. Safe to use from several processes at once."""

    async def create(
        self,
        batch: Batch,
        *,
        request_id: str = "",
        any_file: bool = False,
        most_file_bytes: int = 0,
        most_unended: int = 0,
    ) -> Batch:
        """Keeps a new batch. Where the same non-empty `request_id` of its owner made a batch of an
        equal request before, that is returned.

        Args:
            batch: to be kept.
            request_id: makes it one batch, however often it comes.
            any_file: whether its file may be somebody else's.
            most_file_bytes: length that its file may have. 0: any.
            most_unended: batches that may wait and run. 0: any number.

        Raises:
            AlreadyExists: the request ID made another batch.
            NotFound: the file is not there for the owner.
            InvalidArgument: the file is not for batches, or too large.
            QueueFull: `most_unended` others haven't ended.
        """
        ...

    async def made_by(self, owner: str, request_id: str, spec: BatchSpec) -> Batch | None:
        """Returns the batch that a request ID made. Raises `AlreadyExists` where it made
        another."""
        ...

    async def batch(self, id: str, sees: str | None) -> Batch:
        """Gets one. Raises `NotFound`."""
        ...

    async def batches(self, sees: str | None, page: Page) -> Sequence[Batch]:
        """Lists them by time of creation. Raises `InvalidArgument` as `FileStore.files` does."""
        ...

    async def change(
        self, id: str, sees: str | None, change: BatchChange, *, lease_id: str | None = None
    ) -> Batch:
        """Changes a batch in one transaction: reads, applies, checks the state's transition, keeps
        it with the time of its state. A batch whose end is known, or that ends, is nobody's any
        more, and one that ends lets go of its parts. With `lease_id`, that must be its last.

        Raises `NotFound`, what `change` raises, and `ValueError` for a transition that is not
        allowed.
        """
        ...

    async def stamp(self) -> int | None:
        """Returns a number that is another once anything was committed; None where nobody can
        tell. It costs next to nothing."""
        ...

    async def settle(self) -> None:
        """Notes the end of batches whose window is over, and of those to be cancelled that nobody
        holds any more."""
        ...

    async def lease(self, endpoints: Sequence[str], duration: timedelta) -> Held | None:
        """Leases a batch that is in progress and that nobody holds, if there is one: of the owner
        of whom the fewest are held, the oldest."""
        ...

    async def lease_chore(self, duration: timedelta) -> Held | None:
        """Leases a batch whose file is to be read, or whose files are to be written."""
        ...

    async def renew(self, id: str, lease_id: str, duration: timedelta) -> Batch:
        """Makes a lease last so long from now on."""
        ...

    async def release(self, id: str, lease_id: str) -> None:
        """Gives a lease back; nothing happens where it is over."""
        ...

    async def held(self, id: str, lease_id: str) -> Held:
        """Reads a batch that is held."""
        ...

    async def append(
        self, id: str, lease_id: str, part: Part, completed: Sequence[int], failed: Sequence[int]
    ) -> Batch:
        """Notes the results of some requests, which are in a part, in one transaction; with the
        last ones, the batch is finalized and its lease over.

        Raises:
            Conflict: one of them has a result.
            Unavailable: the part's draft was given up meanwhile.
        """
        ...

    async def parts(self, id: str) -> Sequence[Part]:
        """Lists the parts of a batch, in their order."""
        ...
