"""Batches: made, looked at and cancelled by those who own them.

Nothing here reads a file or runs a request: `BatchKeeper` does the one, and edges do the other, by
`BatchWork`.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from services.errors import FailedPrecondition, InvalidArgument
from services.page_tokens import Place
from services.training.batch_names import new_batch_id
from services.training.batch_records import BATCH_ENDED, Batch, BatchSpec, BatchState
from services.training.batch_store import BatchStore
from services.training.clock import utc_now
from services.training.paging import Asked, Listing, listed
from services.training.records import Caller

_PAGE_SIZE = 20
_MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What may be asked for."""

    max_lines: int = 50_000
    max_file_bytes: int = 200 * 1024 * 1024
    max_unended: int = 1000
    """Most batches that haven't ended, of all owners."""


class Batches:
    """Keeps batches."""

    def __init__(
        self,
        store: BatchStore,
        limits: BatchLimits,
        *,
        nudge: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Takes the means. `nudge` tells the keeper that there is something to do."""
        self._store = store
        self._limits = limits
        self._nudge = nudge
        self._clock = clock

    async def create(self, spec: BatchSpec, request_id: str, caller: Caller) -> Batch:
        """Makes a batch. The same non-empty `request_id` again returns what it made.

        Raises:
            InvalidArgument: a field's value makes no sense, or the file is not for batches.
            NotFound: there is no such file.
            AlreadyExists: the request ID made another batch.
            QueueFull: too many batches haven't ended.
        """
        if not request_id.isprintable():
            raise InvalidArgument(
                "'request_id': must not contain control characters.", field="request_id"
            )
        if any("\0" in text for pair in spec.metadata.items() for text in pair):
            raise InvalidArgument(
                "'batch.metadata': must not contain the character 0.", field="batch.metadata"
            )
        if request_id:
            known = await self._store.made_by(caller.id, request_id, spec)
            if known is not None:
                return known
        now = self._clock()
        batch = Batch(
            id=new_batch_id(),
            owner=caller.id,
            owner_standing=caller.standing,
            spec=spec,
            state=BatchState.VALIDATING,
            create_time=now,
            expire_time=now + spec.window,
            salt=secrets.token_hex(16),
        )
        kept = await self._store.create(
            batch,
            request_id=request_id,
            any_file=caller.is_admin,
            most_file_bytes=self._limits.max_file_bytes,
            most_unended=self._limits.max_unended,
        )
        self._nudge()
        return kept

    async def get(self, id: str, caller: Caller) -> Batch:
        """Gets a batch. Raises `NotFound`."""
        return await self._store.batch(id, caller.sees)

    async def list(self, asked: Asked, caller: Caller) -> Listing[Batch]:
        """Lists the batches that a caller sees, newest first."""
        return await listed(
            asked,
            ["batches", caller.sees or "*"],
            lambda page: self._store.batches(caller.sees, page),
            lambda batch: Place(batch.id, batch.create_time),
            default_size=_PAGE_SIZE,
            most=_MAX_PAGE_SIZE,
        )

    async def cancel(self, id: str, caller: Caller) -> Batch:
        """Cancels a batch. Raises `NotFound`, and `FailedPrecondition` for one that has ended
        otherwise, or is about to."""
        batch = await self._store.change(id, caller.sees, _cancelled)
        self._nudge()
        return batch


def _cancelled(batch: Batch) -> Batch:
    if batch.state in (BatchState.CANCELLING, BatchState.CANCELLED):
        return batch
    if batch.state in BATCH_ENDED or batch.outcome is not None:
        word = batch.state if batch.state in BATCH_ENDED else f"about to be {batch.outcome}"
        raise FailedPrecondition(f"The batch is {word}, so it can't be cancelled.")
    return replace(batch, state=BatchState.CANCELLING)
