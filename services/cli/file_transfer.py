"""Moves files between the disk and the service that keeps them, and checks what arrived."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import grpc
from grpc import aio
from penstock.training.v1 import file_pb2, training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.cli.failures import Failure, UsageFailure

PIECE_BYTES = 512 * 1024
MOST_RETRIES = 5
FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_TRANSFER_S = 24 * 60 * 60.0
"""Deadline of a transfer. The service gives up one that stands still much sooner."""

Progress = Callable[[int], None]
"""Is told how many bytes were moved."""


class Sending:
    """One upload."""

    def __init__(
        self, file: IO[bytes], header: training_service_pb2.FileHeader, progress: Progress
    ) -> None:
        self._file = file
        self._header = header
        self._progress = progress
        self._hash = hashlib.sha256()
        self._unreadable: OSError | None = None

    async def run(self, stub: TrainingServiceStub) -> file_pb2.File:
        """Uploads it. Raises AioRpcError or Failure."""
        try:
            made = await stub.UploadFile(self._requests(), timeout=_TRANSFER_S)
        except asyncio.CancelledError:
            if self._unreadable is None:
                raise
            why = self._unreadable.strerror
            raise Failure(f"{self._header.filename} can't be read: {why}.") from self._unreadable
        if made.sha256 != self._hash.hexdigest():
            raise Failure(
                f"What is kept as {made.name} is not what was sent.",
                hint="Remove it, and upload the file again.",
            )
        return made

    async def _requests(
        self,
    ) -> AsyncGenerator[training_service_pb2.UploadFileRequest, None]:
        yield training_service_pb2.UploadFileRequest(header=self._header)
        moved = 0
        while True:
            try:
                piece = await asyncio.to_thread(self._file.read, PIECE_BYTES)
            except OSError as error:
                self._unreadable = error
                raise
            if not piece:
                return
            self._hash.update(piece)
            yield training_service_pb2.UploadFileRequest(chunk=piece)
            moved += len(piece)
            self._progress(moved)


async def receive(
    stub: TrainingServiceStub, file: file_pb2.File, into: IO[bytes], progress: Progress
) -> None:
    """Downloads a file, and goes on where it was when the connection breaks.

    Raises AioRpcError, Failure for bytes that are not the file's, or OSError.
    """
    seen = hashlib.sha256()
    moved, attempts = 0, 0
    while moved < file.size_bytes:
        request = training_service_pb2.DownloadFileRequest(name=file.name, offset_bytes=moved)
        try:
            async for piece in stub.DownloadFile(request, timeout=_TRANSFER_S):
                into.write(piece.data)
                seen.update(piece.data)
                moved += len(piece.data)
                attempts = 0
                progress(moved)
            break
        except aio.AioRpcError as error:
            attempts += 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE or attempts > MOST_RETRIES:
                raise
            await asyncio.sleep(min(_LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempts - 1)))
    if moved != file.size_bytes or (file.sha256 and seen.hexdigest() != file.sha256):
        raise Failure(
            f"What came is not {file.filename}: {moved:,} of {file.size_bytes:,} bytes, or others.",
            hint="Download it again.",
        )


def check_place(path: Path, *, force: bool) -> None:
    """Raises UsageFailure for a place where nothing can be written."""
    if not path.parent.is_dir():
        raise UsageFailure(
            f"The folder {path.parent} does not exist.", hint=f"`mkdir -p {path.parent}` makes it."
        )
    if path.is_dir():
        raise UsageFailure(f"{path} is a folder.", hint="Name a file in it with -o.")
    if path.exists() and not force:
        raise UsageFailure(f"{path} exists.", hint="--force overwrites it; -o names another file.")


@contextmanager
def new_file(path: Path, *, force: bool) -> Generator[IO[bytes]]:
    """Opens a file that is there once the block has ended well, and not before.

    Raises Failure when it can't be written, or another came meanwhile and `force` is false.
    """
    draft = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            yield file
        if force:
            draft.replace(path)
        else:
            os.link(draft, path)  # fails where a file is
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
