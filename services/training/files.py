"""Files: uploaded whole or not at all, and seen by their owner."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.blobs.port import Blobs
from services.errors import DomainError, InvalidArgument, NotFound, OutOfRange, QueueFull
from services.page_tokens import Place
from services.sql.shield import Shield
from services.training.clock import utc_now
from services.training.media import check_type, media_type
from services.training.names import blob_of, check_filename, new_file_id, no_file
from services.training.paging import Asked, Listing, listed
from services.training.receiving import NewFile, Receipt, Room, given_up
from services.training.records import UPLOADED, Caller, Draft, File, Purpose
from services.training.repeats import repeated
from services.training.store import FileStore

_log = logging.getLogger(__name__)
_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 10_000
_TOUCH_S = 30.0
_STALE = timedelta(minutes=10)
"""A draft that nobody touched for so long belongs to a process that is no more."""
_SWEPT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What may be uploaded."""

    max_file_bytes: int = 512 * 1024 * 1024
    max_owner_bytes: int = 0
    """0: any number."""
    purposes: frozenset[Purpose] = UPLOADED
    types: Sequence[str] = ()
    """Patterns of media types. Empty: any."""
    max_uploads: int = 32


class Files:
    """Keeps files."""

    def __init__(
        self,
        store: FileStore,
        blobs: Blobs,
        limits: FileLimits,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._limits = limits
        self._clock = clock
        self._uploads = 0
        self._shield = Shield()

    async def upload(self, new: NewFile, pieces: AsyncIterable[bytes], caller: Caller) -> File:
        """Receives a file. Nothing is kept, and nothing seen, unless all of it came.

        Raises:
            InvalidArgument: what is said of it is wrong, or not what came.
            MessageTooLarge: it is too large.
            FailedPrecondition: the owner's files would be too much together.
            AlreadyExists: the request ID made another file.
            QueueFull: too many files are being received.
            StorageFull: there is no room for it.
        """
        type = self._check(new)
        draft = Draft(new_file_id(), caller.id, new.filename, new.purpose, type)
        with self._one_more():
            if new.request_id:
                known = await self._store.made_by(caller.id, new.request_id)
                if known is not None:
                    return await self._again(known, draft, new, pieces)
            return await self._receive(draft, new, pieces)

    async def _again(
        self, known: File, draft: Draft, new: NewFile, pieces: AsyncIterable[bytes]
    ) -> File:
        """Compares what comes with the file that its request ID made before."""
        receipt = Receipt(new, Room(self._limits.max_file_bytes))
        async with aclosing(receipt.checked(pieces)) as checked:
            async for _ in checked:
                pass
        return repeated(known, self._finished(draft, new, receipt))

    async def _receive(self, draft: Draft, new: NewFile, pieces: AsyncIterable[bytes]) -> File:
        limits = self._limits
        used = await self._store.used_bytes(draft.owner) if limits.max_owner_bytes else 0
        receipt = Receipt(new, Room(limits.max_file_bytes, limits.max_owner_bytes, used))
        await self._store.begin(draft)
        try:
            async with self._touched(draft.id), aclosing(receipt.checked(pieces)) as checked:
                await self._put(draft, checked)
            kept = await self._store.keep(
                self._finished(draft, new, receipt),
                request_id=new.request_id,
                most_owner_bytes=limits.max_owner_bytes,
            )
        except BaseException:
            await self._shield.around(self._undo)(draft.id)
            raise
        if kept.id != draft.id:
            await self._shield.around(self._undo)(draft.id)
        return kept

    async def get(self, id: str, caller: Caller) -> File:
        """Gets a file. Raises `NotFound`."""
        return await self._store.file(id, caller.sees)

    async def list(self, asked: Asked, purpose: Purpose | None, caller: Caller) -> Listing[File]:
        """Lists the files that a caller sees."""
        query = ["files", purpose or "", caller.sees or "*"]
        return await listed(
            asked,
            query,
            lambda page: self._store.files(caller.sees, purpose, page),
            lambda file: Place(file.id, file.create_time),
            default_size=_PAGE_SIZE,
            most=_MAX_PAGE_SIZE,
        )

    async def delete(self, id: str, caller: Caller) -> None:
        """Deletes a file. Raises `NotFound`."""
        await self._store.remove(id, caller.sees)
        await self._shield.around(self._clear)([id])

    async def read(self, id: str, offset: int, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Reads the content of a file, from an offset on, in pieces of at most 1 MiB.

        Raises:
            NotFound: there is none; also while it is read, where it is deleted meanwhile and the
                storage does not keep it for its readers.
            OutOfRange: the offset lies beyond its end.
        """
        file = await self.get(id, caller)
        if offset > file.size_bytes:
            raise OutOfRange(
                f"'offset_bytes': the file has {file.size_bytes} bytes.", field="offset_bytes"
            )
        pieces = self._blobs.get(blob_of(id), offset=offset)
        try:
            async for piece in pieces:
                yield piece
        except NotFound as error:
            raise no_file(id) from error
        finally:
            await pieces.aclose()

    async def sweep(self) -> None:
        """Deletes expired files, and what uploads left behind whose processes are no more."""
        await self._store.give_up_old(self._clock() - _STALE)
        while ids := await self._store.removed(_SWEPT):
            if not await self._clear(ids):
                return

    async def close(self) -> None:
        """Waits for what tidies up."""
        await self._shield.finish()

    async def _put(self, draft: Draft, pieces: AsyncIterable[bytes]) -> None:
        try:
            await self._blobs.put(blob_of(draft.id), pieces)
        except NotFound as error:
            # What was written of it is gone.
            raise given_up() from error

    def _check(self, new: NewFile) -> str:
        """Returns the media type of a file that may come."""
        check_filename(new.filename, "header.filename")
        if not new.request_id.isprintable():
            raise InvalidArgument(
                "'header.request_id': must not contain control characters.",
                field="header.request_id",
            )
        if new.purpose not in self._limits.purposes:
            taken = ", ".join(sorted(self._limits.purposes)) or "none"
            raise InvalidArgument(
                f"'header.purpose': {new.purpose.value!r} is not taken here. Purposes that are: "
                f"{taken}.",
                field="header.purpose",
            )
        type = media_type(new.mime_type, new.filename, "header.mime_type")
        check_type(type, self._limits.types, "header.mime_type")
        return type

    def _finished(self, draft: Draft, new: NewFile, receipt: Receipt) -> File:
        now = self._clock()
        return File(
            draft.id,
            draft.owner,
            draft.filename,
            draft.purpose,
            draft.mime_type,
            receipt.size,
            receipt.sha256,
            now,
            None if new.time_to_live is None else now + new.time_to_live,
        )

    @contextmanager
    def _one_more(self) -> Generator[None]:
        """Counts an upload."""
        if self._uploads >= self._limits.max_uploads:
            raise QueueFull("Too many files are being received. Try again shortly.")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @asynccontextmanager
    async def _touched(self, id: str) -> AsyncGenerator[None, None]:
        """Tells the sweeps of all processes that a draft is alive."""
        touching = asyncio.create_task(self._touch(id))
        try:
            yield
        finally:
            touching.cancel()

    async def _touch(self, id: str) -> None:
        while True:
            await asyncio.sleep(_TOUCH_S)
            try:
                await self._store.touch(id)
            except DomainError as error:
                _log.warning("an upload could not be touched: %s", error.message)

    async def _undo(self, id: str) -> None:
        """Deletes a draft. Where that can't be done now, a sweep does it later."""
        try:
            if await self._store.give_up(id):
                await self._clear([id])
        except DomainError as error:
            _log.warning("an upload is left for the sweep: %s", error.message)

    async def _clear(self, ids: Sequence[str]) -> bool:
        """Deletes blobs, then forgets their rows; tells whether all went well. What did not is left
        for a sweep."""
        try:
            for id in ids:
                await self._blobs.delete(blob_of(id))
                await self._store.forget(id)
        except DomainError as error:
            _log.warning("deleted files are left for the sweep: %s", error.message)
            return False
        return True
