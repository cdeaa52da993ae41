"""The work on batches: edges lease them, read their requests and bring results.

Results are written to a blob first and noted then, in one transaction, by the holder of the last
lease and no other: so each request has one result at most, and what is noted is not lost.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta

from services.blobs.port import PIECE_BYTES, Blobs
from services.errors import Conflict, InvalidArgument, NotFound
from services.sql.shield import Shield
from services.training.batch_bits import has_bit
from services.training.batch_lines import BadLine, Piece, parse_line, split_lines
from services.training.batch_names import request_id_of
from services.training.batch_records import Batch, BatchError, BatchState, Held, Part
from services.training.batch_store import BatchStore
from services.training.names import blob_of, new_file_id, no_file
from services.training.records import Draft, Purpose
from services.training.store import FileStore

_MOST_BYTES = 4 * 1024 * 1024
"""Of the requests that are read at once."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class LinePlace:
    """A place between two lines of a file."""

    offset: int = 0
    number: int = 0
    """Requests before it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request."""

    number: int
    id: str
    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a request."""

    number: int
    failed: bool
    line: bytes
    """Without its end."""


class BatchWork:
    """Hands out batches, and takes results."""

    def __init__(
        self,
        store: BatchStore,
        files: FileStore,
        blobs: Blobs,
        *,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the means. `nudge` tells the keeper that there is something to do."""
        self._store = store
        self._files = files
        self._blobs = blobs
        self._nudge = nudge
        self._shield = Shield()

    async def lease(self, endpoints: Sequence[str], duration: timedelta) -> Held | None:
        """Leases a batch that has requests to run, if there is one."""
        return await self._store.lease(endpoints, duration)

    async def renew(self, id: str, lease_id: str, duration: timedelta) -> Batch:
        """Makes a lease last longer. Raises `FailedPrecondition` where it is over."""
        return await self._store.renew(id, lease_id, duration)

    async def release(self, id: str, lease_id: str) -> None:
        """Gives a lease back."""
        await self._store.release(id, lease_id)
        self._nudge()

    async def fail(self, id: str, lease_id: str, code: str, message: str) -> None:
        """Ends a batch that can't go on. Raises `FailedPrecondition` where the lease is over."""

        def change(batch: Batch) -> Batch:
            if batch.state is not BatchState.IN_PROGRESS:
                return batch
            errors = (BatchError(code, message),)
            return replace(batch, outcome=BatchState.FAILED, errors=errors)

        await self._store.change(id, None, change, lease_id=lease_id)
        self._nudge()

    async def read(
        self, id: str, lease_id: str, place: LinePlace, most: int
    ) -> tuple[Sequence[Line], LinePlace | None]:
        """Reads requests without results, and where to read on; None at the end of the file.

        Raises:
            FailedPrecondition: the lease is over.
            InvalidArgument: no request begins at the place.
        """
        held = await self._store.held(id, lease_id)
        reader = _Reader(held, place, most)
        content = self._blobs.get(blob_of(held.batch.spec.input_file), offset=place.offset)
        try:
            async with (
                aclosing(content),
                aclosing(split_lines(content, offset=place.offset)) as pieces,
            ):
                async for some in pieces:
                    for piece in some:
                        if not reader.take(piece):
                            return reader.lines, reader.place
        except NotFound as error:
            raise no_file(held.batch.spec.input_file) from error
        return reader.lines, None

    async def append(self, id: str, lease_id: str, results: Sequence[Result]) -> Batch:
        """Keeps results, but for those of requests that have one.

        Raises:
            FailedPrecondition: the lease is over.
            InvalidArgument: there is no such request, one comes twice, or a line has an end.
            StorageFull, Unavailable: they can't be kept now.
        """
        for attempt in range(_TRIES):
            held = await self._store.held(id, lease_id)
            _check(results, held.batch)
            fresh = [one for one in results if not has_bit(held.done, one.number)]
            if not fresh:
                return held.batch
            try:
                batch = await self._keep(held, fresh)
            except Conflict:  # the same came twice at once
                if attempt == _TRIES - 1:
                    raise
            else:
                if batch.outcome is not None:
                    self._nudge()
                return batch
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Waits for what tidies up."""
        await self._shield.finish()

    async def _keep(self, held: Held, results: Sequence[Result]) -> Batch:
        good = [one for one in results if not one.failed]
        bad = [one for one in results if one.failed]
        batch = held.batch
        draft = Draft(
            new_file_id(),
            batch.owner,
            f"{batch.id}_part",
            Purpose.BATCH_OUTPUT,
            "application/jsonl",
        )
        part = Part(draft.id, _length(good), _length(bad))
        await self._files.begin(draft)
        try:
            await self._blobs.put(blob_of(draft.id), _pieces([*good, *bad]))
            return await self._store.append(
                batch.id,
                held.lease_id,
                part,
                [one.number for one in good],
                [one.number for one in bad],
            )
        except BaseException:
            # A sweep deletes the blob. One that was noted after all is no draft any more.
            await self._shield.around(self._files.give_up)(draft.id)
            raise


class _Reader:
    """Picks the requests that have no results."""

    def __init__(self, held: Held, place: LinePlace, most: int) -> None:
        self._held = held
        self._most = most
        self._bytes = 0
        self.place = place
        self.lines: list[Line] = []

    def take(self, piece: Piece) -> bool:
        """Takes a line, unless there are enough; tells whether it did."""
        if len(self.lines) >= self._most or self._bytes > _MOST_BYTES:
            return False
        number, batch = self.place.number, self._held.batch
        if piece.blank:
            self.place = LinePlace(piece.end, number)
            return True
        if number >= batch.total:
            raise _no_place()
        if not has_bit(self._held.done, number):
            try:
                request = parse_line(piece.content, batch.spec.endpoint)
            except BadLine:
                raise _no_place() from None
            id = request_id_of(batch.id, number)
            self.lines.append(Line(number, id, request.custom_id, request.body))
            self._bytes += len(piece.content)
        self.place = LinePlace(piece.end, number + 1)
        return True


def _no_place() -> InvalidArgument:
    # The file was found good, so it is the place that is wrong.
    return InvalidArgument("'from': no request begins there. Send `next` as it came.", field="from")


def _check(results: Sequence[Result], batch: Batch) -> None:
    known: set[int] = set()
    for index, result in enumerate(results):
        if result.number >= batch.total or result.number in known:
            field = f"results[{index}].number"
            raise InvalidArgument(
                f"'{field}': must be the number of another request of the batch.", field=field
            )
        known.add(result.number)
        if b"\n" in result.line:
            field = f"results[{index}].line"
            raise InvalidArgument(f"'{field}': must be one line.", field=field)


def _length(results: Sequence[Result]) -> int:
    return sum(len(one.line) + 1 for one in results)


async def _pieces(results: Sequence[Result]) -> AsyncGenerator[bytes, None]:
    held, size = list[bytes](), 0
    for one in results:
        held += (one.line, b"\n")
        size += len(one.line) + 1
        if size >= PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
