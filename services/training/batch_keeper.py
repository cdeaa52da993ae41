"""The keeper of batches: reads the files of new ones, and writes those of ones that end.

Any number of them may run: each holds a lease of what it works on. What one that died began is
taken up when its lease is over, and comes out the same.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import msgspec

from services.blobs.port import PIECE_BYTES, Blobs
from services.errors import DomainError, FailedPrecondition
from services.training.batch_bits import has_bit
from services.training.batch_lines import Check, Piece, parse_line, split_lines
from services.training.batch_names import request_id_of
from services.training.batch_records import Batch, BatchState, Held, Part
from services.training.batch_store import BatchStore
from services.training.files import Files
from services.training.names import blob_of
from services.training.receiving import NewFile
from services.training.records import Caller, Purpose

_log = logging.getLogger(__name__)
_LEASE = timedelta(seconds=30)
_RENEW_S = 10.0
_AT_ONCE = 2
_RETRY_S = 5.0
_UNSTAMPED = 10
"""Intervals after which there is a look though nothing changed: time ends windows and leases."""
_UNDONE: Mapping[BatchState, tuple[str, str]] = {
    BatchState.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    BatchState.CANCELLED: (
        "batch_cancelled",
        "This request was not executed before the batch was cancelled.",
    ),
    BatchState.FAILED: (
        "batch_failed",
        "This request was not executed before the batch failed.",
    ),
}
"""What is said of requests that have no result when their batch ends: code and message."""


class BatchKeeper:
    """Does what there is to do for batches, but for running their requests."""

    def __init__(
        self,
        store: BatchStore,
        results: Files,
        blobs: Blobs,
        *,
        max_lines: int = 50_000,
        interval_s: float = 1.0,
    ) -> None:
        """Takes the means: `results` takes the files that are written. Looks for work at least
        every `interval_s`."""
        self._store = store
        self._results = results
        self._blobs = blobs
        self._max_lines = max_lines
        self._interval_s = interval_s
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Says that there is something to do."""
        self._nudged.set()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._keep_working())

    async def work(self) -> None:
        """Does what there is to do now."""
        await self._store.settle()
        while (held := await self._store.lease_chore(_LEASE)) is not None:
            await self._do(held)
            await self._store.settle()

    async def _keep_working(self) -> None:
        seen: int | None = None
        unseen = 0
        while True:
            wait_s = self._interval_s
            unseen += 1
            try:
                stamp = await self._store.stamp()
                if stamp is None or stamp != seen or unseen >= _UNSTAMPED:
                    await self.work()
                    seen, unseen = stamp, 0
            except DomainError as error:
                _log.warning("batches can't be kept: %s", error.message)
                wait_s = _RETRY_S
            except Exception:
                # What nobody thought of must not end the loop.
                _log.exception("batches can't be kept")
                wait_s = _RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _do(self, held: Held) -> None:
        batch = held.batch
        try:
            async with self._renewed(held):
                if batch.outcome is None:
                    await self._validate(held)
                else:
                    await self._finish(held)
        except FailedPrecondition as error:
            # It was cancelled meanwhile, or somebody else has it.
            _log.info("the batch %s is left alone: %s", batch.id, error.message)
            await self._store.release(batch.id, held.lease_id)
        except DomainError as error:
            # It is taken up again when the lease is over.
            _log.warning("the batch %s can't go on now: %s", batch.id, error.message)
        except asyncio.CancelledError:
            await self._store.release(batch.id, held.lease_id)
            raise

    async def _validate(self, held: Held) -> None:
        batch = held.batch
        check = Check(batch.spec.endpoint, self._max_lines)
        async with aclosing(self._lines(batch)) as lines:
            async for some in lines:
                await asyncio.to_thread(_feed, check, some)
                if check.hopeless:
                    break
        check.end()

        def change(now: Batch) -> Batch:
            if now.state is not BatchState.VALIDATING or now.outcome is not None:
                raise FailedPrecondition("It is not to be validated any more.")
            if check.errors:
                return replace(now, state=BatchState.FAILED, errors=tuple(check.errors))
            return replace(now, state=BatchState.IN_PROGRESS, total=check.count)

        await self._store.change(batch.id, None, change, lease_id=held.lease_id)

    async def _finish(self, held: Held) -> None:
        batch = held.batch
        assert batch.outcome is not None
        parts = await self._store.parts(batch.id)
        undone = batch.total - batch.completed - batch.failed
        output_file = error_file = ""
        if batch.completed:
            output_file = await self._write(batch, "output", self._outputs(parts))
        if batch.failed or undone:
            error_file = await self._write(batch, "error", self._errors(held, parts))

        def change(now: Batch) -> Batch:
            assert now.outcome is not None
            return replace(
                now,
                state=now.outcome,
                output_file=output_file,
                error_file=error_file,
                failed=now.failed + undone,
            )

        await self._store.change(batch.id, None, change, lease_id=held.lease_id)

    async def _write(self, batch: Batch, what: str, pieces: AsyncGenerator[bytes, None]) -> str:
        """Makes one of a batch's files; the same, where that was done before."""
        told = hashlib.sha256(f"{batch.salt}/{what}".encode()).hexdigest()
        new = NewFile(
            filename=f"{batch.id}_{what}.jsonl",
            purpose=Purpose.BATCH_OUTPUT,
            mime_type="application/jsonl",
            time_to_live=batch.spec.output_time_to_live,
            # With a hash of what nobody knows: no caller can have taken this ID.
            request_id=f"batch-{told}",
        )
        async with aclosing(pieces):
            return (await self._results.upload(new, pieces, Caller(batch.owner))).id

    async def _outputs(self, parts: Sequence[Part]) -> AsyncGenerator[bytes, None]:
        for part in parts:
            if part.output_bytes:
                async with aclosing(
                    self._blobs.get(blob_of(part.file_id), length=part.output_bytes)
                ) as pieces:
                    async for piece in pieces:
                        yield piece

    async def _errors(self, held: Held, parts: Sequence[Part]) -> AsyncGenerator[bytes, None]:
        for part in parts:
            if part.error_bytes:
                async with aclosing(
                    self._blobs.get(
                        blob_of(part.file_id), offset=part.output_bytes, length=part.error_bytes
                    )
                ) as pieces:
                    async for piece in pieces:
                        yield piece
        if held.batch.completed + held.batch.failed < held.batch.total:
            async with aclosing(self._undone(held)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _undone(self, held: Held) -> AsyncGenerator[bytes, None]:
        """Writes a line for each request without a result."""
        number = 0
        async with aclosing(self._lines(held.batch)) as lines:
            async for some in lines:
                there = [piece for piece in some if not piece.blank]
                text = await asyncio.to_thread(_undone_text, held, there, number)
                number += len(there)
                for start in range(0, len(text), PIECE_BYTES):
                    yield text[start : start + PIECE_BYTES]

    async def _lines(self, batch: Batch) -> AsyncGenerator[list[Piece], None]:
        content = self._blobs.get(blob_of(batch.spec.input_file))
        async with aclosing(content), aclosing(split_lines(content)) as lines:
            async for some in lines:
                yield some

    @asynccontextmanager
    async def _renewed(self, held: Held) -> AsyncGenerator[None, None]:
        renewing = asyncio.create_task(self._renew(held))
        try:
            yield
        finally:
            renewing.cancel()

    async def _renew(self, held: Held) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                await self._store.renew(held.batch.id, held.lease_id, _LEASE)
            except DomainError as error:
                _log.warning("a lease of %s can't be renewed: %s", held.batch.id, error.message)


def _feed(check: Check, lines: Sequence[Piece]) -> None:
    for line in lines:
        if not line.blank:
            check.feed(line.content, line.number)
            if check.hopeless:
                return


def _undone_text(held: Held, lines: Sequence[Piece], number: int) -> bytes:
    return b"".join(_undone_lines(held, lines, number))


def _undone_lines(held: Held, lines: Sequence[Piece], number: int) -> Iterator[bytes]:
    batch = held.batch
    assert batch.outcome is not None
    code, message = _UNDONE[batch.outcome]
    for line in lines:
        if not has_bit(held.done, number):
            told = {
                "id": request_id_of(batch.id, number),
                "custom_id": parse_line(line.content, batch.spec.endpoint).custom_id,
                "response": None,
                "error": {"code": code, "message": message},
            }
            yield msgspec.json.encode(told) + b"\n"
        number += 1
